"""What `/v1/embeddings` takes and answers, typed: OpenAI's shapes."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct

from forebay.gateway.schemas import ModelName, Skipped

Dimensions = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class EmbeddingsCall(Struct, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/embeddings`."""

    input: str | list[str | int | list[int]]
    model: ModelName | None = None
    dimensions: Dimensions | None = None
    encoding_format: str | None = None
    user: Skipped = UNSET


class Embedding(Struct, kw_only=True):
    """The vector of one input."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers; or, as base64, the bytes of little-endian float32."""


class EmbeddingsUsage(Struct, kw_only=True):
    """Exact token counts of all inputs; nothing is made but vectors."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, kw_only=True):
    """The answer: one vector per input, in their order."""

    object: Literal["list"] = "list"
    data: Annotated[list[Raw], Meta(extra_json_schema={"items": {"type": "object"}})]
    """An `Embedding` each."""
    model: str
    usage: EmbeddingsUsage
