"""The one table of OpenAI's parameters: honoured, refused, or accepted without effect.

`check` applies it, `/v1/capabilities` shows it, and the OpenAPI document describes by it.
Nothing is dropped in silence: a parameter that would change the answer and cannot be
honoured is refused by name, unless its value asks for what happens anyway.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import msgspec
from msgspec import UNSET, Raw, structs

from forebay.core.errors import Invalid
from forebay.engine.protocol import Feature
from forebay.gateway.schemas import NULL, Call, ChatCall, ChatMessage, Part, TextCall

_OLDER: Final = "It is the older form of tools and tool_choice; send those."
_NO_TOOLS: Final = (
    "This model's chat template takes no tools, or has it ask for them in a form that is not read "
    "here. Ask in words, choose another model, or have the operator set gateway.tools_generic."
)
_NEUTRAL_BYTES_MAX: Final = 64
"""A skipped value longer than this is no neutral value, and is not parsed to find out."""


class Verdict(enum.StrEnum):
    """What happens to a parameter."""

    HONOURED = "honoured"
    REFUSED = "refused"
    WARNED = "warned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One row: what happens to a parameter, and what to do about it."""

    name: str
    verdict: Verdict
    note: str
    needs: frozenset[Feature] = frozenset()
    """Honoured where the engine has one of these; refused elsewhere.  Empty: everywhere."""
    neutral: tuple[object, ...] = ()
    """Values that ask for what happens anyway; they always pass."""
    lacking: str = "The engine of this model cannot do it; leave it out."
    """What to do where no engine honours it."""

    def on(self, supports: frozenset[Feature]) -> Verdict:
        """Return what happens to it on an engine that has these features."""
        lacking = bool(self.needs) and not self.needs & supports
        return Verdict.REFUSED if lacking else self.verdict

    def advice(self, verdict: Verdict) -> str:
        """Return the note that goes with a verdict."""
        lacking = verdict is Verdict.REFUSED and self.verdict is not Verdict.REFUSED
        return self.lacking if lacking else self.note


def honoured(name: str, note: str, *needs: Feature, neutral: tuple[object, ...] = ()) -> Parameter:
    """Return a row: honoured where the engine has one of `needs`."""
    return Parameter(
        name=name,
        verdict=Verdict.HONOURED,
        note=note,
        needs=frozenset(needs),
        neutral=neutral,
    )


def refused(name: str, note: str, *neutral: object) -> Parameter:
    """Return a row: refused, but for what happens anyway."""
    return Parameter(name=name, verdict=Verdict.REFUSED, note=note, neutral=neutral)


def warned(name: str, note: str, *neutral: object) -> Parameter:
    """Return a row: accepted without effect."""
    return Parameter(name=name, verdict=Verdict.WARNED, note=note, neutral=neutral)


def of_tools(name: str, note: str, *neutral: object) -> Parameter:
    """Return a row: honoured for models that take tools."""
    return Parameter(
        name=name,
        verdict=Verdict.HONOURED,
        note=note,
        needs=frozenset({Feature.TOOLS}),
        neutral=neutral,
        lacking=_NO_TOOLS,
    )


_SHARED: Final = (
    honoured("model", "A name from GET /v1/models; the first of them if not given."),
    honoured(
        "frequency_penalty",
        "Lowers the odds of tokens by how often they were used.",
        Feature.FREQUENCY_PENALTY,
        neutral=(0,),
    ),
    honoured(
        "ignore_eos",
        "An extension: do not stop at the end-of-sequence token, so that lengths are exact.",
        Feature.IGNORE_EOS,
        neutral=(False,),
    ),
    refused("logit_bias", "Biases on single tokens are not applied; leave it out.", {}),
    honoured(
        "min_p",
        "An extension: drop tokens less likely than this share of the likeliest.",
        Feature.MIN_P,
        neutral=(0,),
    ),
    honoured(
        "min_tokens",
        "An extension: make at least so many tokens before stopping.",
        Feature.TOKENS_MIN,
        neutral=(0,),
    ),
    honoured("n", "How many answers to make.", Feature.CHOICES, neutral=(1,)),
    honoured(
        "presence_penalty",
        "Lowers the odds of tokens that were used at all.",
        Feature.PRESENCE_PENALTY,
        neutral=(0,),
    ),
    honoured(
        "response_format",
        "text, json_object or json_schema; the last two where the engine can.",
    ),
    honoured("seed", "Makes sampling repeatable.", Feature.SEED),
    honoured("stop", "Texts that end the answer and are not in it.", Feature.STOP, neutral=([],)),
    honoured("stream", "Send the answer as it is made, as server-sent events."),
    honoured("stream_options", "include_usage: end the stream with the token counts."),
    honoured(
        "temperature",
        "0 takes the likeliest token each time; 1 samples as the model was trained.",
        Feature.TEMPERATURE,
        neutral=(1,),
    ),
    honoured(
        "top_k",
        "An extension: sample from the k likeliest tokens; 0 or -1 is off.",
        Feature.TOP_K,
        neutral=(0, -1),
    ),
    honoured(
        "top_p",
        "Sample from the likeliest tokens whose odds add up to this.",
        Feature.TOP_P,
        neutral=(1,),
    ),
    warned("user", "Nobody reads it."),
)


CHAT: Final = (
    *_SHARED,
    honoured("messages", "The conversation; contents are text.", Feature.CHAT),
    refused("audio", "Answers are text only; leave it out."),
    refused("function_call", _OLDER, "none", "auto"),
    refused("functions", _OLDER, []),
    honoured(
        "logprobs",
        "Report the log-probability of each token of the answer.",
        Feature.LOGPROBS,
        neutral=(False,),
    ),
    honoured("max_completion_tokens", "Most tokens to make per choice."),
    honoured("max_tokens", "The older name of max_completion_tokens."),
    warned("metadata", "Nothing is stored, so there is nothing to attach it to.", {}),
    refused("modalities", 'Answers are text only; leave it out, or send ["text"].', ["text"]),
    refused("moderation", "Answers are not moderated here; leave it out."),
    of_tools(
        "parallel_tool_calls",
        "false: at most one call an answer.",
        True,  # noqa: FBT003 - a value that clients send
        False,  # noqa: FBT003 - a value that clients send
    ),
    warned("prediction", "It only hints at speed; the text is the same without it."),
    warned("prompt_cache_key", "The prefix cache finds shared prompts by itself."),
    warned("prompt_cache_options", "The prefix cache decides by itself."),
    warned("prompt_cache_retention", "The prefix cache decides by itself."),
    refused("reasoning_effort", 'The model does not reason first; send "none" or nothing.', "none"),
    warned("safety_identifier", "Nobody reads it."),
    refused("service_tier", 'There is one tier; send "auto" or "default".', "auto", "default"),
    refused("store", "Nothing is stored; send false or nothing.", False),  # noqa: FBT003 - a value that clients send
    of_tools(
        "tool_choice",
        "none, auto, required, or a function; the last two where the engine has grammars.",
        "none",
        "auto",
    ),
    of_tools(
        "tools",
        "Functions that the model may call, or must, by tool_choice.",
        [],
    ),
    refused("top_logprobs", "Only the chosen tokens' odds are known; send 0 or nothing.", 0),
    refused("verbosity", 'Ask for brevity in words; send "medium" or nothing.', "medium"),
    refused("web_search_options", "The web is not searched; leave it out."),
)

TEXT: Final = (
    *_SHARED,
    honoured("prompt", "One text, or one array of token ids.", Feature.TEXT, Feature.TOKEN_IDS),
    honoured("best_of", "Only the value of n: every answer that is made is returned."),
    refused("echo", "The prompt is not repeated; send false or nothing.", False),  # noqa: FBT003 - a value that clients send
    honoured(
        "logprobs",
        "0 reports the log-probability of each token of the answer; more is refused.",
        Feature.LOGPROBS,
    ),
    honoured("max_tokens", "Most tokens to make per choice; 16 where it is not given."),
    refused("suffix", "Nothing can be put behind the answer; leave it out.", ""),
)


TABLES: Final[dict[type[Call], tuple[Parameter, ...]]] = {ChatCall: CHAT, TextCall: TEXT}


class Rows:
    """Some dialect's parameters on one engine."""

    def __init__(
        self,
        call: type[msgspec.Struct],
        table: tuple[Parameter, ...],
        supports: frozenset[Feature],
    ) -> None:
        """Judge calls of this kind, by this table, for an engine that has these features."""
        verdicts = [(parameter, parameter.on(supports)) for parameter in table]
        self._judged = [(p, v) for p, v in verdicts if v is not Verdict.HONOURED]
        # Most calls use none of these: one comparison with their defaults says so.
        names = [parameter.name for parameter, _ in self._judged]
        defaults = {field.name: field.default for field in structs.fields(call)}
        self._values = attrgetter(*names)
        self._absent = tuple(defaults[name] for name in names)

    def judge(self, call: msgspec.Struct) -> list[str]:
        """Return the names that have no effect; raises Invalid for what cannot be honoured."""
        values = self._values(call)
        return [] if values == self._absent else self._judge(values)

    def _judge(self, values: tuple[object, ...]) -> list[str]:
        warnings = []
        for (parameter, verdict), value in zip(self._judged, values, strict=True):
            if value is None or value is UNSET or _passes(value, parameter.neutral):
                continue
            name = parameter.name
            if verdict is Verdict.REFUSED:
                advice = parameter.advice(verdict)
                raise Invalid(f"{name}: not supported. {advice}", param=name)
            warnings.append(name)
        return warnings


class Surface(Rows):
    """One OpenAI dialect's parameters on one engine."""

    def __init__(self, call: type[Call], supports: frozenset[Feature]) -> None:
        """Judge calls of this kind for an engine that has these features."""
        super().__init__(call, TABLES[call], supports)

    def check(self, call: Call) -> list[str]:
        """Return the names that have no effect; raises Invalid for what cannot be honoured."""
        warnings = self.judge(call)
        if call.stream_options is not None:
            if not call.stream:
                message = "stream_options: only together with stream: true."
                raise Invalid(message, param="stream_options")
            if call.stream_options.include_obfuscation:
                warnings.append("stream_options.include_obfuscation")
        form = call.response_format
        if form is not None and form.json_schema is not None and form.json_schema.description:
            warnings.append("response_format.json_schema.description")
        return warnings


def message_warnings(messages: list[ChatMessage], *, tools: bool = False) -> list[str]:
    """Return which fields of messages have no effect; raises Invalid for what must have one.

    `tools`: what messages say of tools has.
    """
    names: set[str] = set()
    for index, message in enumerate(messages):
        if _message_values(message) == _MESSAGE_ABSENT:
            continue
        for name, neutral in _MESSAGE_REFUSED:
            if tools and name == "tool_calls":
                continue
            if is_given(value := getattr(message, name)) and not _passes(value, neutral):
                param = f"messages[{index}].{name}"
                raise Invalid(f"{param}: not supported. Put it into the text.", param=param)
        names.update(f"messages[].{n}" for n in _MESSAGE_WARNED if is_given(getattr(message, n)))
    return sorted(names - {"messages[].tool_call_id"} if tools else names)


def part_extras(part: Part) -> Iterator[str]:
    """Yield the fields of a text part that only other kinds of part have."""
    return (name for name in _PART_EXTRAS if is_given(getattr(part, name)))


def is_given(value: object) -> bool:
    """Whether a client sent a value; null is as good as nothing."""
    return value is not None and value is not UNSET and value != NULL


def _passes(value: object, neutral: tuple[object, ...]) -> bool:
    """Whether a value asks for what happens anyway."""
    if isinstance(value, Raw):
        if value == NULL:
            return True
        if memoryview(value).nbytes > _NEUTRAL_BYTES_MAX:
            return False
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:  # a number that fits nowhere
            return False
    return any(value == wanted and _alike(value, wanted) for wanted in neutral)


def _alike(value: object, wanted: object) -> bool:
    # In Python False == 0; a client that sends 0 for a switch has made a mistake.
    return isinstance(value, bool) == isinstance(wanted, bool)


_MESSAGE_REFUSED: Final[tuple[tuple[str, tuple[object, ...]], ...]] = (
    ("audio", ()),
    ("function_call", ()),
    ("refusal", ("",)),
    ("tool_calls", ([],)),
)
_MESSAGE_WARNED: Final = ("annotations", "name", "tool_call_id")
_message_values: Final = attrgetter(*(name for name, _ in _MESSAGE_REFUSED), *_MESSAGE_WARNED)
_MESSAGE_ABSENT: Final = tuple(
    next(field.default for field in structs.fields(ChatMessage) if field.name == name)
    for name in (*(name for name, _ in _MESSAGE_REFUSED), *_MESSAGE_WARNED)
)
_PART_EXTRAS: Final = ("file", "image_url", "input_audio", "refusal")
