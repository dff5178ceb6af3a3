"""How many connections there are, in all and of one address."""

from collections import Counter
from dataclasses import dataclass, field

from forebay.gateway.client_address import LOCAL, TrustedProxies
from forebay.policy.addresses import network_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdConfig:
    """How many may be connected."""

    connections_max: int = 8_192
    per_address_max: int = 0
    """0: no limit."""
    trusted: TrustedProxies = field(default_factory=TrustedProxies)
    """Many clients come by one address of these: they are not counted by it."""


class Crowd:
    """Counts connections and turns away those too many.

    Mutable state: how many there are, in all and by address.  An address that has none is
    forgotten, so there are never more addresses than connections.
    """

    def __init__(self, config: CrowdConfig | None = None) -> None:
        """Hold connections to `config`."""
        self._config = config or CrowdConfig()
        self.present = 0
        self._by_address: Counter[str] = Counter()

    def enter(self, peer: tuple[str, int] | None) -> str | None:
        """Count a connection; return whose it is, to be given back, or None: it is too many."""
        config = self._config
        if self.present >= config.connections_max:
            return None
        whose = LOCAL
        if config.per_address_max and peer is not None and not config.trusted.holds(peer[0]):
            whose = network_of(peer[0])
            if self._by_address[whose] >= config.per_address_max:
                return None
            self._by_address[whose] += 1
        self.present += 1
        return whose

    def leave(self, whose: str) -> None:
        """Count a connection no longer."""
        self.present -= 1
        if whose == LOCAL:
            return
        self._by_address[whose] -= 1
        if not self._by_address[whose]:
            del self._by_address[whose]

    @property
    def addresses(self) -> int:
        """How many addresses are counted."""
        return len(self._by_address)
