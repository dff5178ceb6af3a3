"""What the connections of one server are held to, and what they share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from forebay.gateway.arrival import Arrivals
from forebay.gateway.client_address import TrustedProxies
from forebay.gateway.config import GatewayConfig
from forebay.gateway.cors import Cors
from forebay.gateway.crowd import Crowd
from forebay.gateway.exchange import Header
from forebay.gateway.heads import Hosts
from forebay.gateway.openai import MODELS_PATH, STREAMS_PATH
from forebay.gateway.turns import Turns

NO_STORE: Header = (b"cache-control", b"no-store")
"""Of whole answers: what a key may see is for nobody's cache."""


@dataclass(slots=True, kw_only=True)
class Terms:
    """Shared by all connections of one server.

    Mutable state: the headers that each answer begins with, encoded; they change once a second.
    """

    config: GatewayConfig = field(default_factory=GatewayConfig)
    turns: Turns = field(default_factory=Turns)
    arrivals: Arrivals = field(default_factory=Arrivals)
    crowd: Crowd = field(default_factory=Crowd)
    hosts: Hosts = field(default_factory=Hosts)
    cors: Cors = field(default_factory=Cors)
    named: tuple[str, ...] = (MODELS_PATH, STREAMS_PATH)
    """Beginnings of the paths that end with a name, in which escapes (`%2F`) mean something."""
    _given: list[Header] | None = None
    _opening: bytes = b""

    def opening(self, given: list[Header]) -> bytes:
        """Return the first lines of every whole answer's head, from the server's own headers."""
        if given is not self._given:
            self._given, self._opening = given, encoded((*given, NO_STORE))
        return self._opening


def misfits(*, hosts: str, trusted_proxies: str, cors: str) -> Iterator[tuple[str, str]]:
    """Yield the key of each of these settings that cannot be read, and why."""
    for key, text, parse in (
        ("server.hosts", hosts, Hosts.parse),
        ("server.trusted_proxies", trusted_proxies, TrustedProxies.parse),
        ("gateway.cors_origins", cors, Cors.parse),
    ):
        try:
            parse(text)
        except ValueError as error:
            yield key, f"{key}: {error}."


def encoded(headers: Iterable[Header]) -> bytes:
    """Return lines of a head."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)
