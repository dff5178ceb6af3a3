"""What a load is made of: waves of requests that come at random, or hands that ask again.

Everything is prepared before the first request: arrivals are drawn from a seed, and a request's
bytes are constant around its number, which makes every prompt another one.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

NUMBER: Final = "##########"
"""In a body, where the request's number stands: ten digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Requests of one kind, from `begins_s` on for `seconds`."""

    name: str
    body: str
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = True
    begins_s: float = 0.0
    seconds: float
    per_s: float = 0.0
    """Arrivals a second, at random (Poisson), however those before them fare: an open loop."""
    hands: int = 0
    """Or: so many clients, each asking again as soon as it is answered: a closed loop."""
    retried_share: float = 0.0
    """Of those refused, how many come back at the moment that the refusal named."""


def arrivals(wave: Wave, source: random.Random) -> Iterator[float]:
    """Yield the moments of a wave's arrivals, in seconds from the load's beginning."""
    assert wave.per_s > 0
    at, ends = wave.begins_s, wave.begins_s + wave.seconds
    while (at := at + source.expovariate(wave.per_s)) < ends:
        yield at


class Encoded:
    """A wave's requests as bytes."""

    __slots__ = ("_after", "_before", "_first")

    def __init__(self, wave: Wave, host: str, first: int) -> None:
        """Count the numbers from `first` on, so that two loads of one server do not collide."""
        headers = {
            "host": host,
            "content-type": "application/json",
            "content-length": str(len(wave.body.encode())),
            **wave.headers,
        }
        lines = [f"POST {wave.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        before, _, after = ("\r\n".join(lines) + wave.body).encode().partition(NUMBER.encode())
        assert after, "a body has a place for its number"
        self._before, self._after, self._first = before, after, first

    def request(self, number: int, header: bytes = b"") -> bytes:
        """Return the bytes of one request; `header` is one more line of its head."""
        before = self._before if not header else self._before.replace(b"\r\n", header, 1)
        return b"%b%010d%b" % (before, (self._first + number) % 10**10, self._after)
