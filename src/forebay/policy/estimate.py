"""Numbers learned one observation at a time: a mean, and a straight line through a cloud.

Both are asked for two things that contradict each other.  One observation that is wild must
not matter; twenty that agree must.  So each observation is clipped to a multiple of what was
expected, and the weight of the newest grows while errors keep the same sign (the tracking
signal of Trigg and Leach: smoothed error over smoothed absolute error).
"""

from typing import Final, Protocol

_SHARE: Final = 0.04
"""Weight of the newest observation at rest; with the limit below, one moves a mean by < 10 %."""
_CLIP: Final = 3.0
"""An observation counts for at most this multiple of what was expected."""
_SIGNAL_SHARE: Final = 0.1
"""Weight of the newest error in the tracking signal: it tells a change after a handful."""
_SIGNAL_NOISE: Final = 0.65
"""Chance alone moves the tracking signal this far: 2.5 times its spread without a change."""
_SIGNAL_GAIN: Final = 0.5 / (1.0 - _SIGNAL_NOISE)
"""While all errors have one sign, the newest observation counts for half."""
_SLOW_SHARE: Final = 0.02
"""The newest observation's weight in a slope, where calm matters more than speed."""
_EAGER_SHARE: Final = 0.1
"""The same while little is known: two observations make a slope, and mostly a wrong one."""
_STEEP: Final = 0.98
"""The slope's largest share of level / middle: 1 is a line through the origin."""
_MEASURED: Final = 8
"""What was measured on purpose counts for as many observations."""
_VARIED_MIN: Final = 1e-3
"""Below this variance, relative to the middle squared, all x are alike: the slope stays."""


class _Weight:
    """How much the newest observation counts, told by whether errors keep one sign."""

    __slots__ = ("_bias", "_spread", "count", "signal")

    def __init__(self, count: int = 0) -> None:
        # The whole mutable state: how many were seen, their smoothed error and its smoothed
        # size, and the tracking signal: 0 while errors go both ways, towards 1 while they agree.
        self.count = count
        self._bias = 0.0
        self._spread = 0.0
        self.signal = 0.0

    def next(self, error: float) -> float:
        """Return the weight of an observation with this error, then note the error."""
        self.count += 1
        share = max(_SHARE, 1.0 / (self.count + 1), (self.signal - _SIGNAL_NOISE) * _SIGNAL_GAIN)
        self._bias += _SIGNAL_SHARE * (error - self._bias)
        self._spread += _SIGNAL_SHARE * (abs(error) - self._spread)
        self.signal = abs(self._bias) / self._spread if self._spread > 0.0 else 0.0
        return share


class Mean:
    """A robust running mean of positive observations; None until there is one."""

    __slots__ = ("_weight", "value")

    def __init__(self) -> None:
        """Know nothing yet."""
        self._weight = _Weight()
        self.value: float | None = None

    def learn(self, observed: float) -> None:
        """Note an observation, at least 0."""
        if self.value is None:
            self.value = observed
            return
        error = min(observed, _CLIP * self.value or observed) - self.value
        self.value += self._weight.next(error) * error

    @property
    def seen(self) -> int:
        """How many observations there were."""
        return self._weight.count + (self.value is not None)

    def expect(self, unknown: float) -> float:
        """Return the mean, or `unknown` while there is none."""
        return unknown if self.value is None else self.value


class Line(Protocol):
    """A fit of y by x, for x, y >= 0."""

    @property
    def middle(self) -> float | None:
        """The x around which it is known best; None while nothing is known."""

    def learn(self, x: float, y: float) -> None:
        """Note an observation."""

    def expect(self, x: float, unknown: float) -> float:
        """Return y at x, or `unknown` while nothing is known."""


class Span:
    """A line that was measured at both ends, and follows what is seen at each.

    Hours at one end say next to nothing of the other: a lane that was never more than a tenth
    full does not forget what it was found to do when full.  Beyond its upper end it goes straight
    on.
    """

    __slots__ = ("_first", "_high", "_last", "_low", "_middle", "_weights")

    def __init__(self, low: tuple[float, float], high: tuple[float, float]) -> None:
        """Begin with two points (x, y)."""
        self._first, self._last = low[0], high[0]
        # The whole mutable state: y at both ends, around which x it was seen of late, and how much
        # the newest observation counts.
        self._low, self._high = low[1], high[1]
        self._middle = high[0]
        self._weights = _Weight(_MEASURED), _Weight(_MEASURED)

    @property
    def middle(self) -> float | None:
        """The x around which it is known best: at first the upper end, where it was measured."""
        return self._middle

    def learn(self, x: float, y: float) -> None:
        """Note an observation; neither may be negative."""
        expected, share = self.expect(x, 0.0), min(self._share(x), 1.0)
        self._middle += _SHARE * (x - self._middle)
        if expected <= 0.0:
            return
        error = min(y / expected, _CLIP) - 1.0
        error *= self._weights[round(share)].next(error)
        self._low *= 1.0 + (1.0 - share) * error
        self._high *= 1.0 + share * error

    def expect(self, x: float, unknown: float) -> float:  # noqa: ARG002 - the protocol's
        """Return y at x."""
        share = self._share(x)
        return max(0.0, self._low * (1.0 - share) + self._high * share)

    def _share(self, x: float) -> float:
        """Return where x lies: 0 at the lower end and below it, 1 at the upper one."""
        if self._last <= self._first:
            return 1.0
        return max((x - self._first) / (self._last - self._first), 0.0)


class Trend:
    """A robust running fit of y = a + b x for x, y >= 0, where y grows with x, but not faster.

    It is kept as a level in the middle of the cloud and a slope relative to that level, so that
    a machine which becomes three times slower is so for every x at once, seen since or not.
    The level takes most of an error and the slope little: what has one sign is the machine.
    """

    __slots__ = ("_level", "_middle", "_slope", "_varied", "_weight")

    def __init__(self) -> None:
        """Know nothing yet."""
        # The whole mutable state: y and x in the cloud's middle, the variance of x, the slope.
        self._weight = _Weight()
        self._level: float | None = None
        self._middle = 0.0
        self._varied = 0.0
        self._slope = 0.0

    def learn(self, x: float, y: float) -> None:
        """Note an observation; neither may be negative."""
        expected = self.expect(x, 0.0)
        if self._level is None or expected <= 0.0:
            self._level, self._middle, self._slope = y, x, 0.0
            return
        error = min(y / expected, _CLIP) - 1.0
        steady = max(0.0, 1.0 - self._weight.signal)
        self._level *= 1.0 + self._weight.next(error) * error
        apart = x - self._middle
        self._varied += _SHARE * (apart * apart - self._varied)
        if self._varied > _VARIED_MIN * x * x:
            slow = min(max(_SLOW_SHARE, 1.0 / self._weight.count), _EAGER_SHARE)
            left = min(error, 1.0) * steady * slow
            self._slope += left * apart / (self._varied + apart * apart)
        self._move_middle(_SHARE * apart)

    @property
    def middle(self) -> float | None:
        """The x around which the line is known best; None while nothing is known."""
        return None if self._level is None else self._middle

    def expect(self, x: float, unknown: float) -> float:
        """Return y at x, or `unknown` while nothing is known."""
        if self._level is None:
            return unknown
        return self._level * (1.0 + self._slope * (x - self._middle))

    def _move_middle(self, apart: float) -> None:
        """Describe the same line from another place, with its slope within bounds."""
        assert self._level is not None
        self._level *= 1.0 + self._slope * apart
        self._slope /= 1.0 + self._slope * apart
        self._middle += apart
        # Steeper than this, y would be negative at 0.
        steepest = _STEEP / self._middle if self._middle > 0.0 else 0.0
        self._slope = min(max(self._slope, 0.0), steepest)
