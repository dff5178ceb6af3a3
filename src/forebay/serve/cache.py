"""Answers that may be given again: exact ones, of one tenant, one wish and one model.

A name is a digest of all three; whoever asks has made it.  An answer is kept as bytes, so that
what it takes is known exactly, and so that nobody who reads it can change it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from forebay.core.clock import Clock
from forebay.core.knob import knob


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Which answers are kept to be given again, and how many of them."""

    enabled: bool = knob(default=True, help="Answer repeatable requests from memory.", live=True)
    scope: str = knob(
        "deterministic",
        "What is kept: repeatable requests (temperature 0, or a seed), or all.",
        choices=("deterministic", "all"),
        live=True,
    )
    ttl_s: float = knob(
        3_600.0,
        "How long an answer may be given again, in seconds.",
        minimum=0.1,
        maximum=2_592_000.0,
        live=True,
    )
    bytes_max: int = knob(
        67_108_864,
        "Most memory for answers, in bytes; those not asked for the longest go first.",
        minimum=0,
        maximum=1_099_511_627_776,
        live=True,
    )
    entries_max: int = knob(
        10_000,
        "Most answers that are kept.",
        minimum=1,
        maximum=100_000_000,
        live=True,
    )


class AnswerCache(Protocol):
    """Keeps answers by name.

    1. `get` returns what was put last, if it is younger than `age_s_max` and its time to live.
    2. It may forget anything at any time, and never fails: what cannot be asked has nothing.
    """

    async def get(self, name: str, age_s_max: float) -> bytes | None:
        """Return an answer, or None."""

    async def put(self, name: str, blob: bytes) -> None:
        """Keep an answer."""

    def reconfigure(self, config: CacheConfig) -> None:
        """Keep what `config` allows from now on."""


@dataclass(frozen=True, slots=True)
class _Kept:
    blob: bytes
    since: float


_ENTRY_BYTES = 400
"""An entry beside its blob: name, record, two places in a dictionary; measured, rounded up."""


class MemoryCache:
    """Keeps answers in this process; those that nobody asked for the longest go first."""

    def __init__(self, config: CacheConfig, now: Clock) -> None:
        """Keep what `config` allows."""
        self._config = config
        self._now = now
        # The whole mutable state.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_kept(self) -> int:
        """What the answers take."""
        return self._bytes

    async def get(self, name: str, age_s_max: float) -> bytes | None:
        """Return an answer, or None."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        age_s = self._now() - kept.since
        if age_s >= self._config.ttl_s:
            self._drop(name)
            return None
        if age_s > age_s_max:
            return None
        self._kept.move_to_end(name)
        return kept.blob

    async def put(self, name: str, blob: bytes) -> None:
        """Keep an answer, unless it alone is more than may be kept."""
        self._drop(name)
        if len(blob) + _ENTRY_BYTES > self._config.bytes_max:
            return
        self._kept[name] = _Kept(blob, self._now())
        self._bytes += len(blob) + _ENTRY_BYTES
        self._make_room()

    def reconfigure(self, config: CacheConfig) -> None:
        """Keep what `config` allows from now on; what is too much goes at once."""
        self._config = config
        self._make_room()

    def _make_room(self) -> None:
        while self._bytes > self._config.bytes_max or len(self._kept) > self._config.entries_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._bytes -= len(kept.blob) + _ENTRY_BYTES
