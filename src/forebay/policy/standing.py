"""Whether a queue stands: a burst that drains is good, a queue that never empties is only delay.

After CoDel (Nichols and Jacobson, 2012), in the form that Facebook gave it for servers
("Fail at Scale", 2015): a queue that has not been empty for an interval stands, and those who
come to a standing queue may wait a short time only.
"""


class Standing:
    """Since when a queue has not been empty."""

    __slots__ = ("_filled", "_interval_s")

    def __init__(self, interval_s: float) -> None:
        """Let a queue stand that was not empty for `interval_s`."""
        self._interval_s = interval_s
        # The whole mutable state: when the first of those who wait came; None while nobody does.
        self._filled: float | None = None

    def filled(self, now: float) -> None:
        """Note that somebody waits."""
        if self._filled is None:
            self._filled = now

    def emptied(self) -> None:
        """Note that nobody waits."""
        self._filled = None

    def at(self, now: float) -> bool:
        """Whether the queue stands."""
        return self._filled is not None and now - self._filled >= self._interval_s
