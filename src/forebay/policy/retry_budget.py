"""How much may be run again: a share of what is asked, so that retries never become the load.

A count per request would multiply the load by itself just when everything fails; a budget
over all requests bounds the sum (Finagle's argument).  The moment is an argument.
"""


class RetryBudget:
    """A bucket: requests and time fill it, each retry takes one out.

    Mutable state: what is in it, and when that was reckoned.
    """

    def __init__(self, *, share_max: float, per_s_min: float, reserve: float) -> None:
        """Allow `share_max` retries per request, `per_s_min` per second besides.

        `reserve` is how many a full bucket holds, which it does at first: all that are lost at
        once with one worker must fit.
        """
        assert reserve >= 1.0, "a budget that allows nothing is none"
        self._share_max = share_max
        self._per_s_min = per_s_min
        self._reserve = reserve
        self._left = reserve
        self._reckoned = 0.0

    @property
    def left(self) -> float:
        """Retries that are allowed now."""
        return self._left

    def asked(self) -> None:
        """Note a request, which is no retry."""
        self._left = min(self._reserve, self._left + self._share_max)

    def take(self, now: float) -> bool:
        """Take a retry out; return whether there was one."""
        passed_s = max(0.0, now - self._reckoned)
        self._reckoned = max(self._reckoned, now)
        self._left = min(self._reserve, self._left + passed_s * self._per_s_min)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def jitter_s(losses: int, share: float, *, wait_s_min: float, wait_s_max: float) -> float:
    """Return a wait before a retry, *full jitter*: a `share` in [0, 1) of a bound that doubles."""
    return share * min(wait_s_max, wait_s_min * 2.0 ** min(losses - 1, 32))
