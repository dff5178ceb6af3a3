"""What the two OpenAI dialects may ask: every parameter there is, typed.

Fields that are honoured have their type and bounds here; `msgspec` checks them while it
parses.  Fields that are refused or have no effect are `Skipped`: they are passed over, never built,
so that a hostile one costs nothing.  What happens to each field stands in `parameters.py`.
A field that is not here does not exist and is refused by name.
"""

from typing import Annotated, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from forebay.core.request import Role

NULL: Final = Raw(b"null")
Skipped = Raw | UnsetType
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
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
CallId = Annotated[str, Meta(min_length=1, max_length=256)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]


class Part(Struct, forbid_unknown_fields=True, kw_only=True):
    """A piece of a message's content; only `type: text` is honoured."""

    type: str
    text: str | None = None
    file: Skipped = UNSET
    image_url: Skipped = UNSET
    input_audio: Skipped = UNSET
    prompt_cache_breakpoint: Skipped = UNSET
    refusal: Skipped = UNSET


class CalledFunction(Struct, forbid_unknown_fields=True, kw_only=True):
    """What the model asked for: a function, and arguments as the text that it wrote."""

    name: FunctionName
    arguments: str


class AskedCall(Struct, forbid_unknown_fields=True, kw_only=True):
    """A tool call of an earlier turn."""

    id: CallId
    function: CalledFunction | None = None
    type: str = "function"
    index: Skipped = UNSET
    """Clients that put a stream together leave it in."""


class ChatMessage(Struct, forbid_unknown_fields=True, kw_only=True):
    """One turn of a conversation."""

    role: Role
    content: str | list[Part] | None = None
    annotations: Skipped = UNSET
    audio: Skipped = UNSET
    function_call: Skipped = UNSET
    name: Skipped = UNSET
    refusal: Skipped = UNSET
    tool_call_id: CallId | None = None
    tool_calls: list[AskedCall] | None = None


class Function(Struct, forbid_unknown_fields=True, kw_only=True):
    """A function that the model may ask for."""

    name: FunctionName
    description: str | None = None
    parameters: Skipped = UNSET
    strict: bool | None = None


class OfferedTool(Struct, forbid_unknown_fields=True, kw_only=True):
    """A tool; only `type: function` is honoured."""

    type: str
    function: Function | None = None
    custom: Skipped = UNSET


class ChosenFunction(Struct, forbid_unknown_fields=True, kw_only=True):
    """The name of one of the tools."""

    name: FunctionName


class ToolChoice(Struct, forbid_unknown_fields=True, kw_only=True):
    """The one tool that is to be called."""

    type: str
    function: ChosenFunction | None = None
    allowed_tools: Skipped = UNSET
    custom: Skipped = UNSET


class StreamOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a stream carries beside its text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SchemaFormat(Struct, forbid_unknown_fields=True, kw_only=True):
    """A named JSON schema that the answer must satisfy."""

    name: FunctionName
    schema: Skipped = UNSET
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, forbid_unknown_fields=True, kw_only=True):
    """The form of the answer: `text`, `json_object` or `json_schema`."""

    type: str
    json_schema: SchemaFormat | None = None


class Shared(Struct, forbid_unknown_fields=True, kw_only=True):
    """The parameters that both dialects have."""

    model: ModelName | None = None
    frequency_penalty: Penalty | None = None
    ignore_eos: bool | None = None
    logit_bias: Skipped = UNSET
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
    user: Skipped = UNSET


class ChatCall(Shared, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: list[ChatMessage]
    audio: Skipped = UNSET
    function_call: Skipped = UNSET
    functions: Skipped = UNSET
    logprobs: bool | None = None
    max_completion_tokens: Tokens | None = None
    metadata: Skipped = UNSET
    modalities: Skipped = UNSET
    moderation: Skipped = UNSET
    parallel_tool_calls: bool | None = None
    prediction: Skipped = UNSET
    prompt_cache_key: Skipped = UNSET
    prompt_cache_options: Skipped = UNSET
    prompt_cache_retention: Skipped = UNSET
    reasoning_effort: Skipped = UNSET
    safety_identifier: Skipped = UNSET
    service_tier: Skipped = UNSET
    store: Skipped = UNSET
    tool_choice: str | ToolChoice | None = None
    tools: list[OfferedTool] | None = None
    top_logprobs: TopLogprobs | None = None
    verbosity: Skipped = UNSET
    web_search_options: Skipped = UNSET


class TextCall(Shared, kw_only=True):
    """`POST /v1/completions`."""

    prompt: str | list[str | int | list[int]]
    best_of: Choices | None = None
    echo: Skipped = UNSET
    logprobs: TopLogprobs | None = None
    suffix: Skipped = UNSET


Call = ChatCall | TextCall
