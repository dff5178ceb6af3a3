"""How fast places come free: what a `Retry-After` is computed from."""

from typing import Final

_NEWEST_SHARE: Final = 0.1
"""Weight of the newest gap; about the last twenty departures count."""


class Pace:
    """A smoothed gap between departures, in seconds, while there is work."""

    def __init__(self) -> None:
        """Know nothing yet."""
        # The whole mutable state: the smoothed gap, and when the last departure was.
        self._gap_s: float | None = None
        self._last: float | None = None

    def departed(self, now: float, *, busy: bool) -> None:
        """Note a departure; `busy` says whether others run or wait, so that the next gap counts."""
        if self._last is not None:
            gap_s = now - self._last
            if self._gap_s is None:
                self._gap_s = gap_s
            else:
                self._gap_s += _NEWEST_SHARE * (gap_s - self._gap_s)
        self._last = now if busy else None

    def until_departures(self, count: int, *, unknown_s: float) -> float:
        """Return the expected seconds until `count` have departed; `unknown_s` if none has yet."""
        return unknown_s if self._gap_s is None else self._gap_s * count
