"""Two decisions about a worker: has it stalled, and how long to wait before the next one.

Pure: the moment and the dice are arguments.
"""

from dataclasses import dataclass
from typing import Final

from forebay.engine.protocol import EngineInfo

_STARVED_FACTOR: Final = 1.5
"""So much longer than its patience, a silent worker that has no processor counts as well."""

_STOPPED_S: Final = 1.0
"""A process that a signal has stopped makes nothing until another one lets it go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What can be seen of a worker at one moment; counters since its start."""

    frames: int
    tokens: int
    busy: bool
    """Requests have been handed to it and have not ended."""
    patience_s: float
    """How long it may be silent now."""
    share: float = 1.0
    """Which part of the time since the last look it could use, in (0, 1]."""


class Patience:
    """How long a worker may be silent: within a step it is mute, however well it is."""

    def __init__(self, stall_s: float, info: EngineInfo) -> None:
        """Wait `stall_s`, or for the longest step of this engine if that is longer."""
        short_s = info.step_s_max if info.step_s_short is None else info.step_s_short
        self.short_s = max(stall_s, short_s)
        self.longest_s = max(stall_s, info.step_s_max)

    def now_s(self, *, slow: bool, stopped: bool) -> float:
        """Return the patience with a worker whose steps are slow, or that stands still."""
        if stopped:
            return min(_STOPPED_S, self.short_s)
        return self.longest_s if slow else self.short_s


class Watch:
    """Tells a worker that is slow from one that is lost.

    It is lost when it has been silent for as long as is allowed (its loop does not turn: a turn
    sends a beat at least), or when work has run for `progress_s_max` without a single token (its
    loop turns in vain).  Time counts only while somebody looks: a gap of more than `look_s_max`
    between two looks was the gateway's own, and is not held against the worker.  Neither is the
    part of its silence in which it had no processor.
    """

    def __init__(
        self, now: float, *, stall_s: float, progress_s_max: float, look_s_max: float
    ) -> None:
        """Begin to watch at `now`; `stall_s` is its patience until the first look."""
        self._patience_s = stall_s
        self._progress_s_max = progress_s_max
        self._look_s_max = look_s_max
        # The whole mutable state.
        self._looked = now
        self._seen = Sight(frames=0, tokens=0, busy=False, patience_s=stall_s)
        self._silent_s = 0.0
        self._unheard_s = 0.0
        """The same, by the clock on the wall."""
        self._fruitless_s = 0.0

    def look(self, now: float, sight: Sight) -> bool:
        """Take note of what is seen at `now`; return whether the worker has stalled."""
        passed_s = min(now - self._looked, self._look_s_max)
        seen, self._seen, self._looked = self._seen, sight, now
        heard = sight.frames != seen.frames
        fruitful = sight.tokens != seen.tokens or not sight.busy or not seen.busy
        self._patience_s = sight.patience_s
        self._silent_s = 0.0 if heard else self._silent_s + passed_s * sight.share
        self._unheard_s = 0.0 if heard else self._unheard_s + passed_s
        self._fruitless_s = 0.0 if fruitful else self._fruitless_s + passed_s
        return self._silent_s >= self._patience_s or self._fruitless_s >= self._progress_s_max

    def well(self, now: float) -> bool:
        """Whether, as far as is known at `now`, its loop turns, and not in vain.

        It stops being well long before it is lost for want of tokens, or of a processor: new
        requests had better go elsewhere while it may still recover.
        """
        since_s = min(now - self._looked, self._look_s_max)
        barren_s_max = max(self._patience_s, self._progress_s_max / 10.0)
        silent = (
            self._silent_s + since_s >= self._patience_s
            or self._unheard_s + since_s >= _STARVED_FACTOR * self._patience_s
        )
        return not silent and self._fruitless_s + since_s < barren_s_max


class Backoff:
    """How long to wait before the next worker is started.

    At once the first time; then a random share (*full jitter*) of a bound that doubles up to
    `wait_s_max`, so that replicas that died together do not come back together.  A worker that
    was ready for `calm_s` clears the count.
    """

    def __init__(self, *, wait_s_min: float, wait_s_max: float, calm_s: float) -> None:
        """Start with no loss counted."""
        self._wait_s_min = wait_s_min
        self._wait_s_max = wait_s_max
        self._calm_s = calm_s
        # The whole mutable state.
        self._losses = 0

    def lost(self, ready_s: float, share: float) -> float:
        """Count a worker that was ready for `ready_s`; return the wait, with `share` in [0, 1)."""
        if ready_s >= self._calm_s:
            self._losses = 0
        self._losses += 1
        if self._losses == 1:
            return 0.0
        doublings = min(self._losses - 2, 32)
        return share * min(self._wait_s_max, self._wait_s_min * 2.0**doublings)
