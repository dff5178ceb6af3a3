"""How much of a core strangers may make us work: seconds of work, filled at a fixed share.

What one piece of work costs is learned from what the last ones cost.  The lower half of the
bucket is kept for those who are known, so that strangers cannot keep them out.
The moment is an argument.
"""

from typing import Final

_FIRST_S: Final = 0.05
"""What a piece is expected to cost before one was measured: Argon2id with OWASP's figures."""
_LEARNED: Final = 0.2


class WorkBudget:
    """A bucket of seconds of work.

    Mutable state: what is in it, when that was reckoned, and what a piece is expected to cost.
    """

    def __init__(self, *, share_max: float, burst_s: float, kept_share: float = 0.5) -> None:
        """Fill it with `share_max` seconds a second, up to `burst_s`, which is in it at first.

        `kept_share` of it is only for those who are known.
        """
        assert share_max > 0.0
        assert 0.0 <= kept_share < 1.0
        self._share_max = share_max
        self._burst_s = burst_s
        self._kept_s = kept_share * burst_s
        self._left_s = burst_s
        self._reckoned = 0.0
        self._expected_s = _FIRST_S

    @property
    def expected_s(self) -> float:
        """What a piece of work is expected to cost, seconds."""
        return self._expected_s

    def wait_s(self, now: float, *, known: bool) -> float:
        """Return how long until a piece of work may begin; 0: now."""
        self._fill(now)
        # A piece that costs more than there ever is begins when the bucket is full.
        kept_s = 0.0 if known else self._kept_s
        needed_s = min(self._expected_s + kept_s, self._burst_s)
        return max(0.0, (needed_s - self._left_s) / self._share_max)

    def take(self, now: float) -> float:
        """Begin a piece of work; return what was taken for it, for `settle`."""
        self._fill(now)
        self._left_s -= self._expected_s
        return self._expected_s

    def settle(self, taken_s: float, spent_s: float | None) -> None:
        """End a piece of work that cost `spent_s`; None: it was not begun after all."""
        if spent_s is None:
            self._left_s = min(self._burst_s, self._left_s + taken_s)
            return
        self._left_s = min(self._burst_s, self._left_s + taken_s - spent_s)
        self._expected_s += _LEARNED * (spent_s - self._expected_s)

    def forgive(self) -> None:
        """Give a piece of work back that turned out to be no stranger's."""
        self._left_s = min(self._burst_s, self._left_s + self._expected_s)

    def _fill(self, now: float) -> None:
        passed_s = max(0.0, now - self._reckoned)
        self._reckoned = max(self._reckoned, now)
        self._left_s = min(self._burst_s, self._left_s + passed_s * self._share_max)
