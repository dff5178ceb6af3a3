"""What the two OpenAI dialects may ask: every parameter there is, typed.

Fields that are honoured have their type and bounds here; `msgspec` checks them while it
parses.  Fields that are refused or have no effect are `Raw`: they are skipped, never built,
so that a hostile one costs nothing.  What happens to each field stands in `parameters.py`.
A field that is not here does not exist and is refused by name.
"""

from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from forebay.core.request import Role

NULL: Final = Raw(b"null")
INT64_MAX: Final = 2**63 - 1

Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(gt=0, le=1)]
TopK = Annotated[int, Meta(ge=-1, le=1_000_000)]
MinP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1, le=1_000_000_000)]
TokensMin = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Choices = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Seed = Annotated[int, Meta(ge=-(2**63), le=INT64_MAX)]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]


class Part(Struct, forbid_unknown_fields=True, kw_only=True):
    """A piece of a message's content; only `type: text` is honoured."""

    type: str
    text: str | None = None
    file: Raw = NULL
    image_url: Raw = NULL
    input_audio: Raw = NULL
    prompt_cache_breakpoint: Raw = NULL
    refusal: Raw = NULL


class ChatMessage(Struct, forbid_unknown_fields=True, kw_only=True):
    """One turn of a conversation."""

    role: Role
    content: str | list[Part] | None = None
    annotations: Raw = NULL
    audio: Raw = NULL
    function_call: Raw = NULL
    name: Raw = NULL
    refusal: Raw = NULL
    tool_call_id: Raw = NULL
    tool_calls: Raw = NULL


class StreamOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a stream carries beside its text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SchemaFormat(Struct, forbid_unknown_fields=True, kw_only=True):
    """A named JSON schema that the answer must satisfy."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: Raw = NULL
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, forbid_unknown_fields=True, kw_only=True):
    """The form of the answer: `text`, `json_object` or `json_schema`."""

    type: str
    json_schema: SchemaFormat | None = None


class Shared(Struct, forbid_unknown_fields=True, kw_only=True):
    """The parameters that both dialects have."""

    model: ModelName
    frequency_penalty: Penalty | None = None
    ignore_eos: bool | None = None
    logit_bias: Raw = NULL
    max_tokens: Tokens | None = None
    min_p: MinP | None = None
    min_tokens: TokensMin | None = None
    n: Choices | None = None
    presence_penalty: Penalty | None = None
    response_format: ResponseFormat | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: TopP | None = None
    user: Raw = NULL


class ChatCall(Shared, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage]
    audio: Raw = NULL
    function_call: Raw = NULL
    functions: Raw = NULL
    logprobs: bool | None = None
    max_completion_tokens: Tokens | None = None
    metadata: Raw = NULL
    modalities: Raw = NULL
    moderation: Raw = NULL
    parallel_tool_calls: Raw = NULL
    prediction: Raw = NULL
    prompt_cache_key: Raw = NULL
    prompt_cache_options: Raw = NULL
    prompt_cache_retention: Raw = NULL
    reasoning_effort: Raw = NULL
    safety_identifier: Raw = NULL
    service_tier: Raw = NULL
    store: Raw = NULL
    tool_choice: Raw = NULL
    tools: Raw = NULL
    top_logprobs: TopLogprobs | None = None
    verbosity: Raw = NULL
    web_search_options: Raw = NULL


class TextCall(Shared, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[str | int | list[int]]
    best_of: Choices | None = None
    echo: Raw = NULL
    logprobs: TopLogprobs | None = None
    suffix: Raw = NULL


Call = ChatCall | TextCall
