"""What `/v1/responses` may be asked, typed: see `schemas.py` for the rules of these types.

Items, parts and tools are of several kinds in OpenAI's API; fields of those that are not offered
are known here too, so that a refusal names the kind.
"""

from msgspec import UNSET, Struct

from forebay.core.request import Role
from forebay.gateway.schemas import (
    CallId,
    FunctionName,
    ModelName,
    Skipped,
    Temperature,
    Tokens,
    TopP,
)


class InputPart(Struct, forbid_unknown_fields=True, kw_only=True):
    """A piece of an item's content: `input_text`, `output_text` or `text`."""

    type: str
    text: str | None = None
    annotations: Skipped = UNSET
    detail: Skipped = UNSET
    file_data: Skipped = UNSET
    file_id: Skipped = UNSET
    file_url: Skipped = UNSET
    filename: Skipped = UNSET
    image_url: Skipped = UNSET
    input_audio: Skipped = UNSET
    logprobs: Skipped = UNSET
    refusal: Skipped = UNSET


class InputItem(Struct, forbid_unknown_fields=True, kw_only=True):
    """A message, a call of an earlier turn, or the result of one."""

    type: str = "message"
    role: Role | None = None
    content: str | list[InputPart] | None = None
    call_id: CallId | None = None
    name: FunctionName | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None
    id: Skipped = UNSET
    phase: Skipped = UNSET
    status: Skipped = UNSET
    action: Skipped = UNSET
    caller: Skipped = UNSET
    encrypted_content: Skipped = UNSET
    namespace: Skipped = UNSET
    summary: Skipped = UNSET


class TextFormat(Struct, forbid_unknown_fields=True, kw_only=True):
    """The form of the answer: `text`, `json_object` or `json_schema`."""

    type: str
    name: FunctionName | None = None
    schema: Skipped = UNSET
    description: str | None = None
    strict: bool | None = None


class TextOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    """How the answer's text is to be."""

    format: TextFormat | None = None
    verbosity: str | None = None


class FunctionTool(Struct, forbid_unknown_fields=True, kw_only=True):
    """A tool; only `type: function` is honoured."""

    type: str
    name: FunctionName | None = None
    description: str | None = None
    parameters: Skipped = UNSET
    strict: bool | None = None
    allowed_callers: Skipped = UNSET
    allowed_tools: Skipped = UNSET
    container: Skipped = UNSET
    defer_loading: Skipped = UNSET
    filters: Skipped = UNSET
    format: Skipped = UNSET
    output_schema: Skipped = UNSET
    require_approval: Skipped = UNSET
    search_context_size: Skipped = UNSET
    server_label: Skipped = UNSET
    server_url: Skipped = UNSET
    user_location: Skipped = UNSET
    vector_store_ids: Skipped = UNSET


class FunctionChoice(Struct, forbid_unknown_fields=True, kw_only=True):
    """The one tool that is to be called."""

    type: str
    name: FunctionName | None = None
    mode: Skipped = UNSET
    server_label: Skipped = UNSET
    tools: Skipped = UNSET


class ResponseStreamOptions(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a stream carries beside its events."""

    include_obfuscation: bool | None = None


class ResponsesCall(Struct, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/responses`."""

    model: ModelName
    input: str | list[InputItem]
    access_programs: Skipped = UNSET
    background: Skipped = UNSET
    context_management: Skipped = UNSET
    conversation: Skipped = UNSET
    image: Skipped = UNSET
    include: Skipped = UNSET
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    max_tool_calls: Skipped = UNSET
    metadata: Skipped = UNSET
    moderation: Skipped = UNSET
    parallel_tool_calls: bool | None = None
    previous_response_id: Skipped = UNSET
    prompt: Skipped = UNSET
    prompt_cache_key: Skipped = UNSET
    prompt_cache_options: Skipped = UNSET
    prompt_cache_retention: Skipped = UNSET
    reasoning: Skipped = UNSET
    safety_identifier: Skipped = UNSET
    service_tier: Skipped = UNSET
    store: Skipped = UNSET
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    temperature: Temperature | None = None
    text: TextOptions | None = None
    tool_choice: str | FunctionChoice | None = None
    tools: list[FunctionTool] | None = None
    top_logprobs: Skipped = UNSET
    top_p: TopP | None = None
    truncation: Skipped = UNSET
    user: Skipped = UNSET
