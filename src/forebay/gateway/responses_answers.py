"""What `/v1/responses` answers: the documents, typed.  They also feed the OpenAPI document."""

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from forebay.core.request import Usage

Status = Literal["in_progress", "completed", "incomplete"]


class OutputText(Struct, kw_only=True):
    """The text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[None] = []
    logprobs: list[None] = []


class OutputMessage(Struct, kw_only=True, tag_field="type", tag="message"):
    """A turn of the model."""

    id: str
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class FunctionCall(Struct, kw_only=True, tag_field="type", tag="function_call"):
    """A function that the model asks for, and its arguments as JSON text."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessage | FunctionCall


class InputDetails(Struct, kw_only=True):
    """What of the input cost less."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct, kw_only=True):
    """What of the output is not seen."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct, kw_only=True):
    """Exact token counts."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int

    @staticmethod
    def of(usage: Usage) -> "ResponseUsage":
        """Put the core's counts into this dialect's shape."""
        return ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=InputDetails(),
            output_tokens=usage.completion_tokens,
            output_tokens_details=OutputDetails(),
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        )


class Incomplete(Struct, kw_only=True):
    """Why an answer stopped early."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ToolEcho(Struct, kw_only=True):
    """A function, as it was offered."""

    type: Literal["function"] = "function"
    name: str
    description: str | None
    parameters: Raw
    """The schema, or null."""
    strict: bool | None


class FormatEcho(Struct, kw_only=True, omit_defaults=True):
    """The form that the text has."""

    type: str
    name: str | None = None
    schema: Raw | UnsetType = UNSET
    strict: bool | None = None


class TextEcho(Struct, kw_only=True):
    """How the text is."""

    format: FormatEcho


class ChoiceEcho(Struct, kw_only=True):
    """The one tool that was to be called."""

    type: Literal["function"] = "function"
    name: str


class Echo(Struct, kw_only=True):
    """What an answer repeats of its call."""

    instructions: str | None
    max_output_tokens: int | None
    parallel_tool_calls: bool
    temperature: float
    text: TextEcho
    tool_choice: str | ChoiceEcho
    tools: list[ToolEcho]
    top_p: float


class Response(Echo, kw_only=True):
    """A whole answer of `/v1/responses`."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    background: Literal[False] = False
    error: None = None
    incomplete_details: Incomplete | None = None
    metadata: dict[str, str] = {}
    model: str
    output: list[OutputItem]
    previous_response_id: None = None
    store: Literal[False] = False
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None


class ResponseEvent(Struct, kw_only=True):
    """An event of a streamed answer; what else it has depends on its type."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
        "response.incomplete",
        "error",
    ]
    sequence_number: int
    """From 0, without a gap."""
