"""Which address a request came from, where proxies may stand before us.

Anybody can write `X-Forwarded-For`.  It is read from the right, for as long as those who wrote are
proxies that the operator named; the first address that is none of them is the client's.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

LOCAL: Final = "local"
"""The client's address over a Unix socket, which has none."""

HOPS_MAX: Final = 32
"""Hops that are looked at; a request that claims more came from the last one looked at."""

_HEADER_BYTES_MAX: Final = 4_096
"""Bytes of a header that are looked at, from its end."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_WITH_PORT: Final = re.compile(r"\[([^\[\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
_FOR: Final = re.compile(r'\s*for\s*=\s*("[^"]*"|[^";,\s]*)\s*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks whose word on who asks is taken."""

    networks: tuple[_Network, ...] = ()
    unix: bool = False
    """Whoever connects by a Unix socket is a proxy of ours."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `10.0.0.0/8, ::1, unix`; raises ValueError that names what is no network."""
        networks: list[_Network] = []
        words = [word.strip() for word in text.split(",") if word.strip()]
        for word in words:
            if word == "unix":
                continue
            try:
                networks.append(ipaddress.ip_network(word))
            except ValueError:
                raise ValueError(
                    f"{word[:60]} is no address or network; write it as 10.0.0.0/8, 192.0.2.7,"
                    " fd00::/8 or unix, without bits behind the mask"
                ) from None
        return cls(tuple(networks), unix="unix" in words)

    def __bool__(self) -> bool:
        """Whether anybody is trusted."""
        return bool(self.networks) or self.unix

    def holds(self, address: str) -> bool:
        """Whether this is the address of a proxy that is trusted."""
        if address == LOCAL:
            return self.unix
        found = _parsed(address)
        return found is not None and self._hold(found)

    def _hold(self, address: _Address) -> bool:
        return any(address in network for network in self.networks)


def client_address(
    peer: tuple[str, int] | None, headers: Mapping[bytes, bytes], trusted: TrustedProxies
) -> str:
    """Return the address a request came from: the peer's, unless that is a trusted proxy.

    Then it is the rightmost address in `X-Forwarded-For`, or else in `Forwarded`, that is no
    trusted proxy's.  What cannot be read as an address ends the search: it was written by the
    last that could, so that one asked.
    """
    address = LOCAL if peer is None else _canonical(peer[0])
    if not trusted or not trusted.holds(address):
        return address
    for hop in _hops(headers):
        found = _parsed(hop)
        if found is None:
            return address
        address = str(found)
        if not trusted.holds(address):
            return address
    return address


def _hops(headers: Mapping[bytes, bytes]) -> list[str]:
    """Return who is said to have passed the request on, the nearest first."""
    given = headers.get(b"x-forwarded-for")
    if given is not None:
        return [hop.strip() for hop in reversed(_tail(given).split(","))][:HOPS_MAX]
    given = headers.get(b"forwarded")
    if given is None:
        return []
    return [_named(element) for element in reversed(_tail(given).split(","))][:HOPS_MAX]


def _tail(value: bytes) -> str:
    """Return the end of a header; what was cut in two is garbage, and ends the search."""
    text = value[-_HEADER_BYTES_MAX:].decode("latin-1")
    return f"?{text}" if len(value) > _HEADER_BYTES_MAX else text


def _named(element: str) -> str:
    """Return the `for` of one element of `Forwarded` (RFC 7239); two of them are garbage."""
    found = [match[1] for part in element.split(";") if (match := _FOR.fullmatch(part))]
    return found[0].strip('"') if len(found) == 1 else ""


def _parsed(hop: str) -> _Address | None:
    """Read an address, with or without a port; None: it is none, or one hides its own."""
    match = _WITH_PORT.fullmatch(hop)
    text = hop if match is None else match[1] if match[1] is not None else match[2]
    try:
        address = ipaddress.ip_address(text.partition("%")[0] if match is None else text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _canonical(host: str) -> str:
    """Return the peer's address in the one form in which it is counted and logged."""
    found = _parsed(host)
    return LOCAL if not host else str(found) if found is not None else host
