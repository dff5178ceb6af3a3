"""The two shapes of an engine: as the gateway sees it, and as a worker drives it."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NewType, Protocol

from forebay.core.errors import EngineError
from forebay.core.record import Holding
from forebay.core.request import Events, FinishReason, Message, Request, Sampling, TokenId
from forebay.core.tooling import Tooling
from forebay.policy.step_costs import StepCosts

SequenceId = NewType("SequenceId", int)


class Feature(enum.StrEnum):
    """What a request may ask of an engine.  What `EngineInfo.supports` lacks is refused."""

    CHAT = "chat"
    TEXT = "text"
    TOKEN_IDS = "token_ids"
    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    TOP_K = "top_k"
    MIN_P = "min_p"
    SEED = "seed"
    STOP = "stop"
    CHOICES = "n"
    PRESENCE_PENALTY = "presence_penalty"
    FREQUENCY_PENALTY = "frequency_penalty"
    LOGPROBS = "logprobs"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    IGNORE_EOS = "ignore_eos"
    TOKENS_MIN = "min_tokens"
    TOOLS = "tools"
    ADAPTERS = "adapters"
    EMBEDDINGS = "embeddings"


EVERY_ENGINE: Final = frozenset(Feature) - {
    *(Feature.CHAT, Feature.TOOLS, Feature.ADAPTERS, Feature.EMBEDDINGS)
}
"""What no model and no kind of engine stands in the way of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine is and can do."""

    name: str
    context_tokens_max: int
    """Prompt and completion tokens together."""
    running_max: int
    """Sequences that run in one batch."""
    supports: frozenset[Feature]
    deterministic: bool = False
    """Same request, same seed, same tokens, whatever runs beside it."""
    step_s_max: float = 5.0
    """The longest that one step may take; beyond it the engine counts as stalled."""
    step_s_short: float | None = None
    """The same while all prompts are short and no grammar is new; None: no less."""
    kv_bytes: int = 0
    """Memory set aside for the KV cache; 0 where there is none."""
    kv_tokens_max: int = 0
    """Tokens that fit into the KV cache; 0 where there is none."""
    vocabulary_size: int = 0
    """Token ids are in [0, vocabulary_size); 0: not checked."""
    embedding_size: int = 0
    """Numbers in an embedding; 0: there are none, or it is not known."""
    resumable: frozenset[Feature] = frozenset()
    """Features with which it goes on in the middle of an answer that a lost one began."""
    costs: StepCosts | None = None
    """What a step costs, measured while loading; None where that is not known."""
    detail: str = ""
    """One line for the person who started it: precision, threads, memory."""
    device: str = "cpu"
    """What it computes on: `cpu`, `cuda`; `remote` where that is another server's business."""


class Engine(Protocol):
    """A source of completions, as the gateway sees it.

    1. `start` returns when a real token has been made, not before.
    2. `generate` yields at most one Scheduled, then Deltas, then exactly one Finished; or
       raises a ServingError: Invalid for what cannot be honoured, EngineError for a failure.
    3. Closing the iterator aborts: within one decode step nothing of the request is held.
    4. `Finished.usage.completion_tokens` is the sum of `Delta.tokens`.
    5. Same request, same seed, same tokens: if `info.deterministic`.
    6. What `info.supports` does not name was refused by the gateway; nothing is ignored here.
    7. `progress()` grows whenever a token is made.
    8. A request with `stream=False` may be answered with one Delta per choice.
    9. With `request.made`, deltas begin after it and usage covers all; deltas carry the token
       ids that this takes: for what `info.resumable` names.
    10. With `sampling.embed`, where EMBEDDINGS is supported: no Delta, and `Finished.embedding`.
    """

    @property
    def info(self) -> EngineInfo:
        """What it is and can do; known once started."""

    async def start(self) -> None:
        """Load, and make one token."""

    def generate(self, request: Request) -> Events:
        """Answer a request."""

    def progress(self) -> int:
        """Tokens made since the start."""

    async def stop(self) -> None:
        """End what runs and give everything back."""


class WorkerLost(EngineError):
    """The worker that had a request is no more; another may go on with it."""

    reason = "gone"
    """A word for why; the text is the same for all."""


class Refused(Exception):
    """A step engine cannot honour a request; `param` names what.  The text goes to the client."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        """Say what cannot be honoured and what would be."""
        super().__init__(message)
        self.message = message
        self.param = param


class CannotLoad(Exception):
    """An engine cannot be made; the text goes to whoever started the server, with the fix."""


class Detokenizer(Protocol):
    """Token ids of one sequence in, whole characters out."""

    def push(self, token_ids: Sequence[TokenId]) -> str:
        """Return the text that has become certain; never part of a character."""

    def flush(self) -> str:
        """Return what is left; bytes that make no character become U+FFFD."""


class Tokenizer(Protocol):
    """A model's own text rules: chat template, vocabulary, end of sequence."""

    def chat(self, messages: Sequence[Message], tooling: Tooling | None = None, /) -> list[TokenId]:
        """Render a conversation and encode it; control tokens in contents arrive as text.

        `tooling` comes only where `Feature.TOOLS` is supported.  Raises Refused for what the
        template does not accept.
        """

    def encode(self, text: str) -> list[TokenId]:
        """Encode plain text; control tokens in it arrive as text."""

    def detokenizer(self) -> Detokenizer:
        """Return a fresh detokenizer for one sequence."""

    def token_bytes(self, token_id: TokenId) -> bytes:
        """Return the UTF-8 bytes that one token stands for."""


@dataclass(slots=True)
class StepOutput:
    """What one step made of one sequence.

    `token_ids` holds what the client is to see: an end-of-sequence token that ended the
    sequence is not in it.  `tokens_hidden` counts such tokens that were made all the same.
    """

    id: SequenceId
    token_ids: Sequence[TokenId]
    finish_reason: FinishReason | None = None
    logprobs: Sequence[float] = ()
    tokens_hidden: int = 0
    failure: str | None = None
    """Set where the sequence has failed, alone: a text for the client; nothing follows."""
    embedding: bytes = b""
    """Of a sequence that makes no tokens (`Sampling.embed`), with its finish reason."""


@dataclass(frozen=True, slots=True)
class StepStats:
    """An engine's gauges, counted by itself."""

    running: int
    waiting: int
    blocks_used_ratio: float
    tokens_made: int


class LaneEngine(Engine, Protocol):
    """An engine as a lane has it: workers that come and go, or servers elsewhere."""

    @property
    def restarts(self) -> Mapping[str, int]:
        """Workers lost since the start, by reason."""

    @property
    def reruns(self) -> int:
        """Requests that went on with another worker."""

    @property
    def poisoned(self) -> int:
        """Requests found to end workers."""

    def well(self, now: float) -> bool:
        """Whether it makes tokens while work runs."""

    def gauges(self) -> StepStats | None:
        """Return its newest gauges, if there are any."""

    def holdings(self) -> Iterator[Holding]:
        """Yield what it holds for whom."""

    def memory_bytes(self) -> int:
        """Return the memory that it takes on this machine now; 0 where that is not known."""

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load a LoRA adapter under a name, beside what runs.

        Raises Invalid where it does not fit or the engine takes none, EngineError otherwise.
        """

    def unload_adapter(self, name: str) -> None:
        """Forget a LoRA adapter; an unknown name is no error."""


class StepEngine(Protocol):
    """An engine library with its own batching, as a worker drives it.  Synchronous; one thread.

    1. `submit` queues and returns, or raises Refused: nothing it cannot honour is dropped.
    2. `step` runs one iteration and returns within `info.step_s_max`; with nothing to do, []
       at once.
    3. Each id gets outputs of new token ids; the last carries a finish reason; then no more.
    4. After `abort(id)` no output of it; its memory is free when the next `step` has returned.
    5. A bad request fails alone; `step` raises only when the engine is lost.
    6. `stats().tokens_made` never falls.
    7. `sampling.stop` and `sampling.choices` are the worker's business: a sequence is one choice.
    8. With `made`, outputs begin after those tokens, as if this engine had made them; with the
       features in `info.resumable` only.
    9. With `sampling.embed`, where `supports` has EMBEDDINGS, a sequence makes no tokens: its one
       output is STOP, and the prompt's vector: `info.embedding_size` little-endian float32, of
       length 1.  Long prompts are read over several steps, as others are.
    """

    @property
    def info(self) -> EngineInfo:
        """What it is and can do."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's text rules."""

    def submit(
        self,
        id: SequenceId,
        prompt_token_ids: Sequence[TokenId],
        sampling: Sampling,
        *,
        made: Sequence[TokenId] = (),
    ) -> None:
        """Queue a sequence; `sampling.tokens_max` (0: embed) and `sampling.seed` are set by now.

        `made` are its first tokens, made elsewhere: the limits of `sampling` count what is left.
        """

    def abort(self, id: SequenceId) -> None:
        """Forget a sequence; an unknown id is no error."""

    def step(self) -> Sequence[StepOutput]:
        """Run one iteration."""

    def stats(self) -> StepStats:
        """Return the gauges."""

    def close(self) -> None:
        """Give the memory back."""


class Adaptable(StepEngine, Protocol):
    """A step engine that lays LoRA adapters over its weights: where `supports` has ADAPTERS.

    1. Sequences with different adapters, or none, run side by side (`sampling.adapter`).
    2. Loading and unloading leaves what runs unharmed; what is unloaded is asked no more.
    """

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load a PEFT folder under a name; raises CannotLoad with the fix if it does not fit."""

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter, and give its memory back; an unknown name is no error."""
