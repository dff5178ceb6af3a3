"""What to expect of a request at the door: its wait, its first token, its end.

Theory of operation
-------------------
A lane has `places`.  While all are taken, one comes free every (mean time a place is held) /
places seconds (Little's law), so a request with k sequences before it waits k times as long.
The time that a place is held is learned against how many were taken, because a fuller batch
is slower for each; this tells the pace before the lane has ever been full, and follows a
machine that slows down from the first requests that leave.

Who overtakes whom is the queue's business: it says how many places will be taken before.

A free place is not a first token.  Of many that are let in at once each waits for the prompts
of those before it: the `backlog` of those let in that have no token yet.  What a first token
takes that has no such prompts before it is learned apart from what each token of them adds.

A forecast that knows nothing says None, and who is told None refuses nobody.  Each `learn`
and each `expect` costs the same however many requests there are.
"""

import math
from dataclasses import dataclass
from typing import Final

from forebay.core.request import Chat, Prompt, Text, TokenIds
from forebay.core.tooling import Tooling
from forebay.policy.estimate import Line, Mean, Span, Trend
from forebay.policy.step_costs import StepCosts

_BYTES_PER_TOKEN: Final = 4.0
"""English text, until the model's own ratio is known."""
_LEFT_MIN: Final = 0.05
"""Promises never leave less than this share of the lane to those who come now."""
_BACKLOG_MIN: Final = 1.0
"""Tokens of others below which a prompt counts as alone."""
_DOUBT_TOKENS: Final = 1024.0
"""Tokens that cost nothing, added to those observed: what one short prompt cost another, which is
mostly the step that they shared, says little about many."""
_CAUTION_MAX: Final = 2.0
"""How many times slower than it seems a lane may be that was never seen full."""
_USUAL_TOKENS: Final = 64.0
"""Of a prompt and of an answer, until some are known."""
_CHUNK_TOKENS: Final = 512.0
"""Of a prompt: up to so many, each costs about what was measured of fewer, a tenth more."""
_SURE: Final = 8
"""Measured on purpose, that counts for more than what one request suggests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a request asks for, as far as the door can see."""

    prompt_tokens: float
    """A guess; see `Forecast.prompt_tokens`."""
    tokens_max: int | None = None
    """Most tokens per choice; None: whatever the context leaves."""
    choices: int = 1


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
    backlog: float = 0.0
    """Prompt tokens of others that are to be prefilled before (`Forecast.backlog`)."""
    held_s: float = math.inf
    """How long the place that it would get has been held by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What will become of a request, in seconds from now."""

    wait_s: float
    ttft_s: float
    finish_s: float
    departures: float
    """Places that must come free before it runs, those for promises included; 0: it runs now."""
    backlog_s: float
    """How long the prompts of others keep it from its first token once it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What a request that held a place teaches.  Times in seconds, None where unknown."""

    held_s: float
    """From its admission until it left, whoever ended it."""
    taken: float
    """Places taken while it ran, its own included: the middle of first and last, if known."""
    prompt_bytes: int = 0
    """UTF-8 length of the prompt; 0 where the client sent token ids."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Per choice; None unless it came to its own end."""
    tokens_max: int | None = None
    backlog: float = 0.0
    """Prompt tokens of others that were to be prefilled before its own, as `begin` said."""
    first_token_s: float | None = None
    decode_s: float | None = None


class Forecast:
    """One lane's expectations, learned from what leaves it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        # The whole mutable state: what was learned.
        self._held = Mean()  # seconds a place is held
        self._held_tokens = Mean()  # the same, in tokens that are made meanwhile
        self._first_token: Line = Trend()  # seconds from admission to first token, by prompt tokens
        self._behind = Mean()  # seconds more, where others' prompts are before it
        self._behind_tokens = Mean()  # the tokens of those prompts
        self.backlog = 0.0  # prompt tokens of those let in that have no token yet
        self._per_token: Line = Trend()  # seconds per further token, by places taken
        self._prompt = Trend()  # tokens by bytes
        self._completion = Mean()  # tokens, whatever was asked for
        self._by_tokens_max: dict[int, Mean] = {}  # tokens, by the magnitude of `tokens_max`

    def assume(self, costs: StepCosts, places: int) -> None:
        """Begin with what a step costs, for requests of a usual size, until some have left."""
        tokens, read_s = _USUAL_TOKENS, costs.read_s
        # While as many come as go, each step reads a token of a prompt for each that it makes.
        each_s = costs.sequence_s + read_s
        self._per_token = Span(
            (1.0, costs.step_s + each_s), (places, costs.step_s + places * each_s)
        )
        self._first_token = Span(
            (1.0, costs.step_s + read_s), (_CHUNK_TOKENS, costs.step_s + _CHUNK_TOKENS * read_s)
        )
        for _ in range(_SURE):
            self._behind.learn(_CHUNK_TOKENS * read_s)
            self._behind_tokens.learn(_CHUNK_TOKENS)
        self._completion.learn(tokens)
        self._held_tokens.learn(tokens)

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
        held_s, held_tokens = self._held.value, self._held_tokens.value
        if held_tokens is not None:
            held_s = held_tokens * self._per_token.expect(places, 0.0)
        return held_s / places if held_s else None

    def safe_gap_s(self, places: int) -> float | None:
        """Return the gap to make promises by: longer, while the lane is hardly known when full."""
        gap_s, known = self.gap_s(places), self._per_token.middle
        if gap_s is None or known is None:
            return gap_s
        return gap_s * min(max(places / max(known, 1.0), 1.0), _CAUTION_MAX)

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
        wait_s = departures * gap_s
        if departures:
            # Of those who began together nobody leaves for a while, whatever the law says.
            wait_s = max(wait_s, gap_s * crowd.places - crowd.held_s)
        taken = min(crowd.places, crowd.taken + crowd.ahead + size)
        # What is prefilled meanwhile, those who are let in before bring again.
        backlog_s = crowd.backlog * self._backlog_token_s()
        ttft_s = wait_s + backlog_s + self._first_token.expect(work.prompt_tokens, 0.0)
        per_token_s = self._per_token.expect(taken, 0.0)
        return Expectation(
            wait_s=wait_s,
            ttft_s=ttft_s,
            finish_s=ttft_s + max(0.0, tokens - 1.0) * per_token_s,
            departures=departures,
            backlog_s=backlog_s,
        )

    @property
    def backlog_s(self) -> float:
        """How long it will take until those let in have their first tokens."""
        return self.backlog * self._backlog_token_s() if self.backlog else 0.0

    def begin(self, prompt_tokens: float) -> float:
        """Note a request that is let in; return what is to be prefilled before its own prompt."""
        before, self.backlog = self.backlog, self.backlog + prompt_tokens
        return before

    def begun(self, prompt_tokens: float) -> None:
        """Note that a request has its first token, or has left without one."""
        self.backlog = max(0.0, self.backlog - prompt_tokens)

    def learn(self, left: Departure) -> None:
        """Note a request that has left its place."""
        tokens, per_token_s = left.completion_tokens, 0.0
        if tokens is not None:
            self._completion.learn(tokens)
            self._by_tokens_max.setdefault(_magnitude(left.tokens_max), Mean()).learn(tokens)
            if left.decode_s and tokens > 1:
                per_token_s = left.decode_s / (tokens - 1)
                self._per_token.learn(left.taken, per_token_s)
        if left.prompt_tokens is not None:
            if left.prompt_bytes:
                self._prompt.learn(left.prompt_bytes, left.prompt_tokens)
            if left.first_token_s is not None:
                self._learn_first_token(left.prompt_tokens, left.backlog, left.first_token_s)
        self._held.learn(left.held_s)
        # In the request's own tokens, so that a machine's change is not taken for longer answers.
        per_token_s = per_token_s or self._per_token.expect(left.taken, 0.0)
        if per_token_s > 0.0:
            self._held_tokens.learn(left.held_s / per_token_s)

    def _learn_first_token(self, prompt_tokens: int, backlog: float, first_token_s: float) -> None:
        if backlog < _BACKLOG_MIN:
            self._first_token.learn(prompt_tokens, first_token_s)
            return
        alone_s = self._first_token.expect(prompt_tokens, 0.0)
        self._behind.learn(max(0.0, first_token_s - alone_s))
        self._behind_tokens.learn(backlog)

    def _backlog_token_s(self) -> float:
        """Return how long each prompt token of others keeps a first token back, seconds."""
        tokens, seen = self._behind_tokens.expect(0.0), self._behind_tokens.seen
        return self._behind.expect(0.0) / (tokens + _DOUBT_TOKENS / seen) if seen else 0.0


def prompt_bytes(prompt: Prompt) -> int:
    """Return a prompt's length in UTF-8; 0 where it is token ids."""
    match prompt:
        case Chat(messages=messages, tooling=tooling):
            spoken = sum(_utf8_length(message.content) for message in messages)
            return spoken if tooling is None else spoken + tooling_bytes(tooling)
        case Text(text=text):
            return _utf8_length(text)
        case TokenIds():
            return 0


def tooling_bytes(tooling: Tooling) -> int:
    """Return how much text of a conversation is about tools, in UTF-8."""
    calls = [call for turn in tooling.turns for call in turn.calls]
    return sum(
        _utf8_length(text)
        for text in (
            *(text for tool in tooling.tools for text in (tool.description, tool.parameters)),
            *(text for call in calls for text in (call.name, call.arguments)),
        )
    )


def _utf8_length(text: str) -> int:
    # Whether a string is ASCII is known without reading it.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _magnitude(tokens_max: int | None) -> int:
    """Return which requests are alike: for up to 1, 3, 7, 15 ... tokens; -1: no limit named."""
    return -1 if tokens_max is None else tokens_max.bit_length()
