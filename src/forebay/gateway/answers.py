"""What the two dialects answer: the documents, typed.  They also feed the OpenAPI document."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from forebay.core.request import TokenLogprob, Usage


class UsageBody(Struct, kw_only=True):
    """Exact token counts; completion tokens are summed over the choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @staticmethod
    def of(usage: Usage) -> "UsageBody":
        """Put the core's counts into OpenAI's shape."""
        return UsageBody(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        )


class ChatTokenLogprob(Struct, kw_only=True):
    """One chosen token and the natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[None] = []


class ChatLogprobs(Struct, kw_only=True):
    """The odds of a piece of an answer, token by token."""

    content: list[ChatTokenLogprob]
    refusal: None = None

    @staticmethod
    def of(tokens: tuple[TokenLogprob, ...] | list[TokenLogprob]) -> "ChatLogprobs":
        """Put the core's odds into the shape of chat completions."""
        return ChatLogprobs(
            content=[
                ChatTokenLogprob(token=t.text, logprob=t.logprob, bytes=list(t.utf8))
                for t in tokens
            ]
        )


class TextLogprobs(Struct, kw_only=True):
    """The odds of a piece of an answer, in the older shape of completions."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: None = None
    text_offset: list[int]

    @staticmethod
    def of(tokens: tuple[TokenLogprob, ...] | list[TokenLogprob], start: int) -> "TextLogprobs":
        """Put the core's odds into that shape; `start` is the first token's character."""
        offsets = []
        for token in tokens:
            offsets.append(start)
            start += len(token.text)
        return TextLogprobs(
            tokens=[t.text for t in tokens],
            token_logprobs=[t.logprob for t in tokens],
            text_offset=offsets,
        )


Finish = Literal["stop", "length", "tool_calls"]


class CalledBody(Struct, kw_only=True):
    """A function that the model asks for, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCallBody(Struct, kw_only=True):
    """One call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: CalledBody


class CalledDelta(Struct, kw_only=True, omit_defaults=True):
    """What a chunk adds to a call: its name, or more of its arguments."""

    name: str | None = None
    arguments: str


class ToolCallDelta(Struct, kw_only=True, omit_defaults=True):
    """What a chunk adds to one of the calls; id, type and name come with a call's first."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledDelta


class AssistantMessage(Struct, kw_only=True):
    """The model's turn."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    """null where the turn is nothing but calls."""
    refusal: None = None
    tool_calls: list[ToolCallBody] | UnsetType = UNSET
    """Where the model asks for tools."""


class ChatChoice(Struct, kw_only=True):
    """One of the `n` answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish


class ChatCompletion(Struct, kw_only=True):
    """A whole answer of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageBody


class ChatDelta(Struct, kw_only=True, omit_defaults=True):
    """What a chunk adds to the model's turn."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChatChunkChoice(Struct, kw_only=True):
    """What a chunk adds to one of the `n` answers."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: Finish | None = None


class ChatChunk(Struct, kw_only=True):
    """One event of a streamed answer of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: UsageBody | None = None


class TextChoice(Struct, kw_only=True):
    """One of the `n` answers, or, in a stream, what an event adds to it."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Finish | None


class TextCompletion(Struct, kw_only=True):
    """An answer of `/v1/completions`, or one event of it; streams end with the usage."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: UsageBody | None = None


class Model(Struct, kw_only=True):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(Struct, kw_only=True):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[Model]
