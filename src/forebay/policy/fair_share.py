"""Whose turn it is among tenants: virtual token counters.

Theory of operation
-------------------
After "Fairness in Serving Large Language Models" (Sheng and others, OSDI 2024).  Each tenant
has a counter of the tokens it was served, prompt tokens once and completion tokens twice,
divided by its weight.  The tenant with the least counter goes next.  What a request will cost
is not known when it is let in, so its expected cost is charged then and corrected when it
leaves.

Who did not wait earns little: a tenant that comes is lifted to the level, the highest counter
from which anybody was served, less a credit of a few requests.  So a tenant that was away for
an hour does not block the others for an hour, one that used an idle server alone does not pay
for it later, and one that comes now and then goes before one that never stops.  While two
tenants both wait, their served tokens differ by no more than the credit and what may be running
uncorrected for each.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

_COMPLETION_WEIGHT: Final = 2.0
"""A completion token against a prompt token, as in the paper; `engines.md` measured 2 to 3."""


def cost_of(prompt_tokens: float, completion_tokens: float) -> float:
    """Return weighted tokens: what a tenant is charged for a request."""
    return prompt_tokens + _COMPLETION_WEIGHT * completion_tokens


def parse_weights(text: str) -> dict[str, float]:
    """Read `name=2,name=0.5`; raises ValueError with the entry at fault and what is allowed."""
    weights = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = entry.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not name.strip() or not _WEIGHT_MIN <= weight <= _WEIGHT_MAX:
            raise ValueError(
                f"tenant_weights: {entry[:80]!r} is not name=weight with a weight from "
                f"{_WEIGHT_MIN:g} to {_WEIGHT_MAX:g}. Write for example 'alice=2,bob=0.5'."
            )
        weights[name.strip()] = weight
    return weights


_WEIGHT_MIN: Final = 0.01
_WEIGHT_MAX: Final = 100.0


class FairShare:
    """The counters of the tenants of one class."""

    def __init__(
        self, weights: Mapping[str, float], *, tenants_max: int, credit: float = 0.0
    ) -> None:
        """Give a tenant without a weight the weight 1; remember `tenants_max` counters.

        `credit` is how far below the level, in weighted tokens, one stands that comes.
        """
        assert tenants_max >= 1
        assert credit >= 0.0
        self._weights = weights
        self._tenants_max = tenants_max
        self._credit = credit
        # The whole mutable state: counters, the longest unused first, and the level.
        self._served: OrderedDict[str, float] = OrderedDict()
        self._level = 0.0

    def __len__(self) -> int:
        """How many tenants are remembered."""
        return len(self._served)

    def weight(self, tenant: str) -> float:
        """How many times the share of others a tenant gets."""
        return self._weights.get(tenant, 1.0)

    def turn(self, tenant: str) -> float:
        """Return a tenant's counter: the least goes first."""
        return self._served.get(tenant, self._level - self._credit)

    def turn_if_it_came(self, tenant: str) -> float:
        """Return the counter that a tenant would have if it came now."""
        return max(self.turn(tenant), self._level - self._credit)

    def come(self, tenant: str) -> None:
        """Note that a tenant, of whom nobody waited, has come."""
        self._note(tenant, self.turn_if_it_came(tenant))

    def serve(self, tenant: str) -> None:
        """Note that a tenant is served while nobody waits, and will be charged at the end."""
        counter = self.turn_if_it_came(tenant)
        self._level = max(self._level, counter)
        self._note(tenant, counter)

    def charge(self, tenant: str, cost: float) -> None:
        """Note that a request of a tenant is let in, whose cost is expected to be this."""
        counter = self.turn(tenant)
        self._level = max(self._level, counter)
        self._note(tenant, counter + cost / self.weight(tenant))

    def correct(self, tenant: str, surplus: float) -> None:
        """Add what a request cost beyond what was charged for it; negative: give it back."""
        self._note(tenant, self.turn(tenant) + surplus / self.weight(tenant))

    def _note(self, tenant: str, counter: float) -> None:
        self._served[tenant] = counter
        self._served.move_to_end(tenant)
        if len(self._served) > self._tenants_max:
            # Who is forgotten will come as if for the first time.
            self._served.popitem(last=False)
