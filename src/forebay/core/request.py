"""What a client asked, and the events that answer it."""

import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import NewType

RequestId = NewType("RequestId", str)
TokenId = int


class Route(enum.StrEnum):
    """Where a request came in: a closed set, because it labels metrics."""

    CHAT_COMPLETIONS = "chat_completions"
    COMPLETIONS = "completions"
    PROBE = "probe"
    UNMATCHED = "unmatched"


class Priority(enum.IntEnum):
    """Who goes first when a lane is full; lower runs earlier."""

    INTERACTIVE = 0
    BATCH = 1


class Role(enum.StrEnum):
    """Who speaks in a conversation."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation; its content is text, never control tokens."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A prompt to be rendered by the model's chat template."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A prompt taken as it is."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """A prompt that the client tokenized."""

    ids: tuple[TokenId, ...]


Prompt = Chat | Text | TokenIds


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonObject:
    """The answer must be one JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchema:
    """The answer must be JSON that satisfies `schema`, a JSON text already checked for size."""

    schema: str


Grammar = JsonObject | JsonSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen and when they end.  Defaults are OpenAI's, or 'off'."""

    tokens_max: int | None = None
    """Most tokens to make per choice; None: what the context leaves."""
    tokens_min: int = 0
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 is off."""
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    """How many answers (`n`); each is a sequence of its own."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: bool = False
    """Report the log-probability of each chosen token."""
    ignore_eos: bool = False
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingAdvice:
    """How a model is best sampled where a client names nothing; OpenAI's defaults."""

    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One client's wish, checked and bounded.  Moments are monotonic seconds of this process."""

    id: RequestId
    route: Route
    model: str
    prompt: Prompt
    sampling: Sampling
    received: float
    deadline: float
    stream: bool = False
    """The client reads as tokens are made; otherwise it waits for the whole completion."""
    tenant: str = "anonymous"
    priority: Priority = Priority.INTERACTIVE


class FinishReason(enum.StrEnum):
    """Why a choice stopped."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One chosen token: its text, bytes and natural-log probability."""

    text: str
    utf8: bytes
    logprob: float


@dataclass(slots=True)
class Admitted:
    """The request has a place; its wait at the door is over."""


@dataclass(slots=True)
class Scheduled:
    """The engine has taken the request in."""

    prompt_tokens: int


@dataclass(slots=True)
class Delta:
    """New text of one choice.  `finish_reason` marks the choice's last delta.

    `more` says that the next event is already waiting, so a writer may hold its flush.
    """

    text: str
    tokens: int = 1
    choice: int = 0
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Exact token counts of a request; completion tokens are summed over its choices."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTiming:
    """Durations measured inside the engine's process, in seconds; None where unknown.

    `first_token_s` counts from the engine's receipt of the request to its first token
    (queueing inside the engine and prefill), `decode_s` from the first token to the last.
    """

    first_token_s: float | None = None
    decode_s: float | None = None


@dataclass(slots=True)
class Finished:
    """Every choice has ended; nothing follows."""

    usage: Usage
    timing: EngineTiming = field(default_factory=EngineTiming)


Event = Admitted | Scheduled | Delta | Finished
"""At most one Admitted, at most one Scheduled, then Deltas, then exactly one Finished."""

Events = AsyncGenerator[Event, None]
"""An iterator of events that can be closed; closing it cancels the work behind it."""
