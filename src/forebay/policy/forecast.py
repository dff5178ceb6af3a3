"""What to expect of a request at the door: its wait, its first token, its end.

Theory of operation
-------------------
A lane has `places`.  While all are taken, one comes free every (mean time a place is held) /
places seconds (Little's law), so a request with k sequences before it waits k times as long.
The time that a place is held is learned against how many were taken, because a fuller batch
is slower for each; this tells the pace before the lane has ever been full, and follows a
machine that slows down from the first requests that leave.

What the law does not know (classes that overtake, limits that move, requests that leave the
queue) is learned by comparing waits with what the law says of them now: `waited`.

A forecast that knows nothing says None, and who is told None refuses nobody.  Each `learn`
and each `expect` costs the same however many requests there are.
"""

from dataclasses import dataclass
from typing import Final

from forebay.core.record import RequestRecord
from forebay.core.request import Chat, Priority, Prompt, Source, Text, TokenIds
from forebay.policy.estimate import Trend, Mean

_CORRECTION_MIN: Final = 0.25
_CORRECTION_MAX: Final = 4.0
"""How far waits may be from Little's law before the forecast rather believes the law."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a request asks for, as far as the door can see."""

    prompt_tokens: float
    """A guess; see `Forecast.prompt_tokens`."""
    tokens_max: int | None = None
    """Most tokens per choice; None: whatever the context leaves."""
    choices: int = 1
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What a request finds at the door, counted in places (sequences), not in requests."""

    places: int
    """The lane's limit."""
    taken: int
    """Places taken now."""
    ahead: float
    """Places that those who wait and would go first will take."""
    promised: float = 0.0
    """Places per second promised to others in the time to come (`PromiseBook.flow`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What will become of a request, in seconds from now."""

    wait_s: float
    ttft_s: float
    finish_s: float
    departures: float
    """Places that must come free before it runs, those for promises included; 0: it runs now."""
    priority: Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What a request that held a place teaches.  Times in seconds, None where unknown."""

    held_s: float
    """From its admission until it left, whoever ended it."""
    taken: int
    """Places taken while it ran, its own included."""
    prompt_bytes: int = 0
    """UTF-8 length of the prompt; 0 where the client sent token ids."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Per choice; None unless it came to its own end."""
    tokens_max: int | None = None
    first_token_s: float | None = None
    decode_s: float | None = None


class Forecast:
    """One lane's expectations, learned from what leaves it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        # The whole mutable state: what was learned.
        self._held = Trend()  # seconds a place is held, by places taken
        self._first_token = Trend()  # seconds from admission to first token, by prompt tokens
        self._per_token = Trend()  # seconds per further token, by places taken
        self._prompt = Trend()  # tokens by bytes
        self._completion = Mean()  # tokens, whatever was asked for
        self._by_tokens_max: dict[int, Mean] = {}  # tokens, by the magnitude of `tokens_max`
        self._corrections = {priority: Mean() for priority in Priority}

    def prompt_tokens(self, prompt: Prompt) -> float:
        """Guess how many tokens a prompt has; exact where the client sent token ids."""
        if isinstance(prompt, TokenIds):
            return float(len(prompt.ids))
        length = prompt_bytes(prompt)
        return self._prompt.expect(length, length / _BYTES_PER_TOKEN)

    def completion_tokens(self, tokens_max: int | None) -> float | None:
        """Return how many tokens a choice is likely to get; None while nothing is known."""
        alike = self._by_tokens_max.get(_magnitude(tokens_max))
        expected = self._completion.value if alike is None else alike.value
        if expected is None or tokens_max is None:
            return expected
        return min(expected, float(tokens_max))

    def gap_s(self, places: int) -> float | None:
        """Return the seconds between places that come free while all are taken, or None."""
        held_s = self._held.expect(places, 0.0)
        return held_s / places if held_s > 0.0 else None

    def expect(self, work: Work, crowd: Crowd) -> Expectation | None:
        """Say what will become of a request that comes now; None while nothing is known."""
        gap_s, tokens = self.gap_s(crowd.places), self.completion_tokens(work.tokens_max)
        if gap_s is None or tokens is None:
            return None
        # One that is larger than the whole lane runs alone: it waits for every place.
        size = min(work.choices, crowd.places)
        departures = max(0.0, crowd.ahead + size - max(0, crowd.places - crowd.taken))
        # Of each place that comes free, the promised share goes to those who come back for it.
        departures /= max(_LEFT_MIN, 1.0 - crowd.promised * gap_s)
        wait_s = departures * gap_s * self._correction(work.priority)
        taken = min(crowd.places, crowd.taken + crowd.ahead + size)
        ttft_s = wait_s + self._first_token.expect(work.prompt_tokens, 0.0)
        per_token_s = self._per_token.expect(taken, 0.0)
        return Expectation(
            wait_s=wait_s,
            ttft_s=ttft_s,
            finish_s=ttft_s + max(0.0, tokens - 1.0) * per_token_s,
            departures=departures,
            priority=work.priority,
        )

    def waited(self, expected: Expectation, wait_s: float, *, places: int) -> None:
        """Compare a wait that is over with what the law says of it now.

        Not with what was said then: a change of pace is learned from departures already, and
        would be learned twice.
        """
        gap_s = self.gap_s(places)
        if gap_s is not None and expected.departures > 0.0:
            self._corrections[expected.priority].learn(wait_s / (expected.departures * gap_s))

    def learn(self, left: Departure) -> None:
        """Note a request that has left its place."""
        self._held.learn(left.taken, left.held_s)
        if left.prompt_tokens is not None:
            if left.prompt_bytes:
                self._prompt.learn(left.prompt_bytes, left.prompt_tokens)
            if left.first_token_s is not None:
                self._first_token.learn(left.prompt_tokens, left.first_token_s)
        tokens = left.completion_tokens
        if tokens is None:
            return
        self._completion.learn(tokens)
        self._by_tokens_max.setdefault(_magnitude(left.tokens_max), Mean()).learn(tokens)
        if left.decode_s is not None and tokens > 1:
            self._per_token.learn(left.taken, left.decode_s / (tokens - 1))

    def _correction(self, priority: Priority) -> float:
        learned = self._corrections[priority].expect(1.0)
        return min(max(learned, _CORRECTION_MIN), _CORRECTION_MAX)


_BYTES_PER_TOKEN: Final = 4.0
"""English text, until the model's own ratio is known."""
_LEFT_MIN: Final = 0.05
"""Promises never leave less than this share of the lane to those who come now."""


def departure_of(record: RequestRecord, taken: int) -> Departure | None:
    """Return what a record teaches; None if it held no place.

    `taken` is how many places were taken while it ran, its own included.
    """
    timeline, request = record.timeline, record.request
    if timeline.source is not Source.ENGINE or timeline.admitted is None or request is None:
        return None
    assert timeline.ended is not None, "a record is written by ending"
    engine, usage, sampling = timeline.engine, record.usage, request.sampling
    return Departure(
        held_s=timeline.ended - timeline.admitted,
        taken=taken,
        prompt_bytes=prompt_bytes(request.prompt),
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens // sampling.choices if usage else None,
        tokens_max=sampling.tokens_max,
        first_token_s=engine.first_token_s if engine else None,
        decode_s=engine.decode_s if engine else None,
    )


def ttft_error_s(record: RequestRecord) -> float | None:
    """Return actual minus expected time to first token, seconds; None where either is unknown."""
    actual_s, expected_s = record.ttft_s, record.timeline.ttft_forecast_s
    return None if actual_s is None or expected_s is None else actual_s - expected_s


def prompt_bytes(prompt: Prompt) -> int:
    """Return a prompt's length in UTF-8; 0 where it is token ids."""
    match prompt:
        case Chat(messages=messages):
            return sum(_utf8_length(message.content) for message in messages)
        case Text(text=text):
            return _utf8_length(text)
        case TokenIds():
            return 0


def _utf8_length(text: str) -> int:
    # Whether a string is ASCII is known without reading it.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _magnitude(tokens_max: int | None) -> int:
    """Return which requests are alike: for up to 1, 3, 7, 15 ... tokens; -1: no limit named."""
    return -1 if tokens_max is None else tokens_max.bit_length()
