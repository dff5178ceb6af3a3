"""Which of several equal servers gets a request: the one that knows its beginning, unless busy.

Theory of operation
-------------------
A server that has read the beginning of a prompt before answers sooner: it has the prefix in its
cache.  So requests carry a *mark* of their beginning, and each mark has an order of servers,
by rendezvous hashing: every server's name is hashed with the mark, and the highest comes first.
When a server goes, only its own marks move; when it is back, they come back.

The first in the order gets the request, unless it is much busier than the one that has least to
do; then the second is looked at, and so on.  So a hot beginning spreads over as few servers as
it needs, and always over the same ones.

Without a mark, the less loaded of two that are drawn at random is taken.  Two are enough: the
longest queue grows with the logarithm of the logarithm of their number (Mitzenmacher's result),
and no two gateways pounce on the same idle server.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF


def mark_of(beginning: bytes) -> int:
    """Return the mark of a prompt's beginning: equal beginnings, equal marks, in any process."""
    return int.from_bytes(hashlib.blake2b(beginning, digest_size=8).digest(), "big")


class Affinity:
    """Chooses among servers that are told apart by name.  It remembers nothing."""

    def __init__(self, names: Sequence[str], *, busier_ratio_max: float, busier_max: int) -> None:
        """Leave a prompt's own server when it is much busier than the one that has least to do.

        That is, when it has more than so many times its requests, and so many besides.
        """
        assert busier_ratio_max >= 1.0, "whoever has least to do is always near enough"
        self._salts = tuple(mark_of(name.encode()) for name in names)
        self._busier_ratio_max = busier_ratio_max
        self._busier_max = busier_max

    def choose(
        self, able: Sequence[int], loads: Sequence[float], mark: int | None, *, share: float
    ) -> int:
        """Return one of `able`, indexes of servers; `loads` are of all, by index.

        `share` is a random number in [0, 1).
        """
        assert able, "there is one to choose"
        if len(able) == 1:
            return able[0]
        if mark is None:
            return _lighter_of_two(able, loads, share)
        least = min([loads[index] for index in able])
        near = self._busier_ratio_max * least + self._busier_max
        best, best_score = -1, -1
        for index in able:
            if loads[index] <= near:
                score = _mixed(self._salts[index] ^ mark)
                if score > best_score:
                    best, best_score = index, score
        return best


def _lighter_of_two(able: Sequence[int], loads: Sequence[float], share: float) -> int:
    """Draw two different ones with one random number, and return the one that has less to do."""
    count = len(able)
    scaled = share * count
    first = int(scaled)
    second = (first + 1 + int((scaled - first) * (count - 1))) % count
    one, other = able[first], able[second]
    return other if loads[other] < loads[one] else one


def _mixed(bits: int) -> int:
    """Spread 64 bits evenly (the finalizer of splitmix64): each bit depends on each."""
    bits = ((bits ^ (bits >> 30)) * 0xBF58_476D_1CE4_E5B9) & _BITS
    bits = ((bits ^ (bits >> 27)) * 0x94D0_49BB_1331_11EB) & _BITS
    return bits ^ (bits >> 31)
