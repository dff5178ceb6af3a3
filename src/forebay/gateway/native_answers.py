"""What `/generate` and its kin answer: the source documents' shapes, typed.  Durations: seconds."""

from msgspec import Raw, Struct

from forebay.gateway.answers import Finish
from forebay.gateway.problems import ProblemBody


class Metrics(Struct, kw_only=True, omit_defaults=True):
    """What was measured of an answer; in a stream, so far."""

    ttft: float | None
    """From receipt to the first token."""
    tpot: float | None
    """Per token after the first; null below two tokens."""
    total_time: float
    """From receipt to now."""
    tokens_generated: int
    tokens_per_second: float | None
    prompt_tokens: int | None = None
    """Known at the end."""


class TokenEvent(Struct, kw_only=True):
    """One event of `/generate_stream`."""

    token: str
    """What is new: one token's text; of several where the reader is slower than the model."""
    text: str
    """All of the text so far."""
    finished: bool
    metrics: Metrics


class StreamFailure(Struct, kw_only=True):
    """The last event of a stream that failed after its beginning."""

    token: str = ""
    finished: bool = True
    error: ProblemBody


class Generated(Struct, kw_only=True):
    """The answer of `/generate` to one prompt."""

    id: str
    model: str
    text: str
    finish_reason: Finish
    metrics: Metrics


class BatchResult(Struct, kw_only=True):
    """What became of one prompt of a batch: a text."""

    index: int
    id: str
    text: str
    finish_reason: Finish
    metrics: Metrics


class BatchFailure(Struct, kw_only=True):
    """What became of one prompt of a batch: an error."""

    index: int
    error: ProblemBody


class BatchMetrics(Struct, kw_only=True):
    """What was measured of a batch as a whole."""

    total_time: float
    tokens_generated: int
    tokens_per_second: float | None
    succeeded: int
    failed: int


class BatchAnswer(Struct, kw_only=True):
    """The answer to a batch: one entry per prompt, in order; each a result or a failure."""

    id: str
    model: str
    results: list[Raw]
    metrics: BatchMetrics


class InferMetadata(Struct, kw_only=True):
    """Who answered, and how long it took."""

    model: str
    version: str
    tokens_generated: int
    response_time: float
    """From receipt to answer."""
    generation_time: float
    """In the engine; 0 where nothing was made for this request."""


class Inferred(Struct, kw_only=True):
    """The answer of `/infer`."""

    result: str
    metadata: InferMetadata


class ModelVersions(Struct, kw_only=True):
    """A model and its versions."""

    base_model: str
    versions: list[str]
    description: str


class BaseModels(Struct, kw_only=True):
    """`GET /models`."""

    models: list[ModelVersions]


class ModelInfo(Struct, kw_only=True):
    """`GET /model/info`: the model that answers whoever names none."""

    model: str
    versions: list[str]
    description: str
    loaded: bool
    engine: str
    detail: str
    context_tokens_max: int | None
    running_max: int | None
    features: list[str]
    running: int
    waiting: int
    tokens_generated: int
    """Since the engine was started."""
    models: list[str]
    """All that are served."""


class CachedModel(Struct, kw_only=True):
    """A version of a model, and whether it is in memory."""

    base_model: str
    version: str
    loaded: bool


class StatusPage(Struct, kw_only=True):
    """`GET /status`."""

    service: str
    version: str
    status: str
    timestamp: float
    """Unix seconds."""
    prometheus_available: bool
    cached_models: int
    """Models in memory."""
    device: str
    cached_model_info: list[CachedModel]
