"""What a client asked, and the events that answer it."""

import enum
import hashlib
import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Final, NewType

from forebay.core.caller import ANONYMOUS, NOBODY, Caller
from forebay.core.tooling import Tooling
from forebay.core.value import value
from forebay.core.visit import Visit

RequestId = NewType("RequestId", str)
TokenId = int


class Route(enum.StrEnum):
    """Where a request came in: a closed set, because it labels metrics."""

    CHAT_COMPLETIONS = "chat_completions"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    GENERATE = "generate"
    GENERATE_STREAM = "generate_stream"
    GENERATE_BATCH = "generate_batch"
    INFER = "infer"
    STREAMS = "streams"
    SHADOW = "shadow"
    PROBE = "probe"
    UNMATCHED = "unmatched"


class Priority(enum.IntEnum):
    """The classes of work (`X-Priority`): when a lane is full, the lower runs earlier."""

    INTERACTIVE = 0
    BATCH = 1


class Role(enum.StrEnum):
    """Who speaks in a conversation."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@value
class Message:
    """One turn of a conversation; its content is text, never control tokens."""

    role: Role
    content: str


@value
class Chat:
    """A prompt to be rendered by the model's chat template."""

    messages: tuple[Message, ...]
    tooling: Tooling | None = None
    """For templates that take tools; None: the conversation is plain."""


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


@value
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
    adapter: str = ""
    """The LoRA adapter over the model's weights, by the name it was loaded under; empty: none."""
    embed: bool = False
    """Make no tokens but the prompt's vector; everything else but the adapter is at rest then."""
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingAdvice:
    """How a model is best sampled where a client names nothing; OpenAI's defaults."""

    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Whether an answer that was made before may serve, and whether this one may serve others."""

    read: bool = False
    write: bool = False
    age_s_max: float = math.inf
    """Oldest answer that serves, seconds."""


NO_REUSE: Final = Reuse()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made of one choice by a worker that is lost, so that another goes on from there."""

    token_ids: tuple[TokenId, ...] = ()
    """Every token made, those whose text was still held back included."""
    characters: int = 0
    """Characters of their text that were handed out."""
    tokens: int = 0
    """Tokens that were counted with that text, as in `Delta.tokens`."""
    finished: bool = False


@value
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
    tenant: str = ANONYMOUS
    caller: Caller = NOBODY
    """Who asks, and who pays; its tenant is the request's."""
    priority: Priority = Priority.INTERACTIVE
    completion_id: str = ""
    """What the answer is called (`chatcmpl-...`)."""
    created: int = 0
    """When the answer was begun, Unix seconds."""
    shape: str = ""
    """What distinguishes its encoding beyond its events: part of what a key stands for."""
    imprint: str = ""
    """What the answer says of its maker (`system_fingerprint`); a key does not stand for it."""
    key: str | None = None
    """`Idempotency-Key`: the same key is the same wish."""
    attach: bool = True
    """Join a generation of the same key that runs; otherwise be refused with 409."""
    resume_after: int | None = None
    """`Last-Event-ID`: how many of the stream's events the client has."""
    resume_of: str = ""
    """`Last-Event-ID`: the mark of the answer that those events are of; empty: not said."""
    repeatable: bool = False
    """The client asked for the same answer every time: greedy, or with a seed."""
    reuse: Reuse = NO_REUSE
    ticket: str | None = None
    """A promise of an earlier refusal, sent back by the client."""
    body_bytes: int = 0
    """How long its body was; 0 where there is none."""
    body_sign: int = 0
    """What tells this body from others within this process; 0 where there is none."""
    made: tuple[Made, ...] = ()
    """Per choice, what a lost worker made; empty: begin at the beginning."""
    via: str = ""
    """The route that led to the model; empty where the client named the model itself."""
    visit: Visit | None = field(default=None, compare=False)
    """The exchange that it came by; None: nobody outside asked."""


def digest(request: Request, *, by_route: bool = False) -> str:
    """Return the SHA-256 of what decides an answer's content: equal wishes, equal digests.

    `by_route`: what a client sent is equal, to whichever model its route led.

    It is taken from the typed request, so that neither the order of a body's keys nor a default
    spelled out makes a difference; tenant, stream or not, and deadline are not in it.
    """
    model, sampling = request.model, request.sampling
    if by_route and request.via:
        model, sampling = request.via, replace(sampling, adapter="")
    facts = repr((request.route.value, model, request.prompt, sampling))
    return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()


def mark(completion_id: str) -> str:
    """Return what tells the events of one answer from those of another to the same wish.

    An answer that came to no end is made anew, and the beginning of one must not be put together
    with the end of the other.
    """
    return hashlib.sha256(completion_id.encode("utf-8", "surrogatepass")).hexdigest()[:8]


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


class Source(enum.StrEnum):
    """Where an answer's tokens come from; only those of ENGINE were made for this request."""

    ENGINE = "engine"
    JOINED = "joined"
    """From a generation that another request began."""
    REPLAYED = "replayed"
    """From the store, by `Idempotency-Key` or by stream."""
    CACHED = "cached"


@value
class Begun:
    """The answer's name and origin, before everything else; absent on the plain path.

    It holds whatever an encoder must know of the request that began the answer, so that the
    same bytes can be made again.  `resumable`: its events are kept, and numbered in a stream.
    """

    completion_id: str
    created: int
    route: Route
    model: str
    choices: int
    shape: str
    imprint: str
    source: Source = Source.ENGINE
    resumable: bool = False
    degraded: bool = False
    """The store is away: only this process knows the key."""


def begun(
    request: Request,
    source: Source = Source.ENGINE,
    *,
    resumable: bool = False,
    degraded: bool = False,
) -> Begun:
    """Name an answer by the request that began it."""
    return Begun(
        completion_id=request.completion_id,
        created=request.created,
        route=request.route,
        model=request.model,
        choices=request.sampling.choices,
        shape=request.shape,
        imprint=request.imprint,
        source=source,
        resumable=resumable,
        degraded=degraded,
    )


@dataclass(slots=True)
class Admitted:
    """The request has a place; its wait at the door is over."""

    ttft_forecast_s: float | None = None
    """What the door expected of its time to first token, from its receipt, seconds."""


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
    token_ids: tuple[TokenId, ...] = ()
    """The choice's tokens made since its last delta; text of the newest may be held back."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Exact token counts of a request; completion tokens are summed over its choices."""

    prompt_tokens: int
    completion_tokens: int


@value
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
    embedding: bytes = b""
    """Where a vector was asked for: little-endian float32."""


Event = Begun | Admitted | Scheduled | Delta | Finished
"""At most one each of Begun, Admitted and Scheduled, then Deltas, then exactly one Finished."""

Events = AsyncGenerator[Event, None]
"""An iterator of events that can be closed; closing it cancels the work behind it."""
