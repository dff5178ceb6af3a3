"""The last places of a lane, kept for tenants that hold less than their share of it.

Taking turns (`fair_share.py`) decides who runs next, but who comes to a lane that is full still
waits until something ends, and the neighbour that filled it does so again and again.  So the
last places are taken only while somebody waits who holds less than its share of all places;
otherwise they stay free for whoever of those that came lately comes next.  That costs throughput
where few tenants want all there is and others come now and then; it costs nothing while one
tenant comes alone, or while all want more than there is.

It decides whether a place is taken, never by whom: that is a matter of turns, or a tenant with
long requests would get more tokens from as many places.
"""

from collections import OrderedDict
from collections.abc import Callable


class Reserve:
    """Who came lately, and who holds how many places."""

    def __init__(self, weight: Callable[[str], float], *, tenants_max: int) -> None:
        """Share by `weight`, the tenants' weights; remember at most `tenants_max` of them."""
        self._weight = weight
        self._tenants_max = tenants_max
        # The whole mutable state: places by tenant, never 0; when each came last, the longest ago
        # first; and the sum of their weights.
        self._places: dict[str, int] = {}
        self._came: OrderedDict[str, float] = OrderedDict()
        self._weights = 0.0

    def came(self, tenant: str, now: float) -> None:
        """Note that a request of a tenant is at the door."""
        if tenant not in self._came:
            self._weights += self._weight(tenant)
        self._came[tenant] = now
        self._came.move_to_end(tenant)
        if len(self._came) > self._tenants_max:
            self._forget()

    def took(self, tenant: str, size: int) -> None:
        """Note that a tenant has got places."""
        self._places[tenant] = self._places.get(tenant, 0) + size

    def gave(self, tenant: str, size: int) -> None:
        """Note that a tenant has given places back."""
        left = self._places[tenant] - size
        assert left >= 0
        if left:
            self._places[tenant] = left
        else:
            del self._places[tenant]

    def shared(self, since: float) -> bool:
        """Whether more than one tenant has come since a moment; who came before is forgotten."""
        while self._came and next(iter(self._came.values())) < since:
            self._forget()
        return len(self._came) > 1

    def entitled(self, tenant: str, limit: int) -> bool:
        """Whether a tenant holds less than its share of the places."""
        weight = self._weight(tenant)
        weights = self._weights if tenant in self._came else self._weights + weight
        return self._places.get(tenant, 0) < limit * weight / weights

    def _forget(self) -> None:
        tenant, _ = self._came.popitem(last=False)
        self._weights = self._weights - self._weight(tenant) if self._came else 0.0
