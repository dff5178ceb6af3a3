"""The whole parameter surface: nothing is dropped in silence."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import completion_create_params as openai_text
from openai.types.chat import completion_create_params as openai_chat

from forebay.core.errors import Invalid
from forebay.core.request import Chat, Sampling, SamplingAdvice
from forebay.engine.protocol import EngineInfo, Feature
from forebay.gateway import parameters
from forebay.gateway.calls import Converter
from forebay.gateway.config import GatewayConfig
from forebay.gateway.parameters import Parameter, Surface, Verdict, message_warnings
from forebay.gateway.reading import Reader
from forebay.gateway.schemas import ChatCall, TextCall

EVERYTHING = frozenset(Feature)
MESSAGES = [{"role": "user", "content": "hello"}]
REQUIRED: dict[type, dict[str, Any]] = {
    ChatCall: {"model": "m", "messages": MESSAGES},
    TextCall: {"model": "m", "prompt": "hello"},
}
CHATS, TEXTS = Reader(ChatCall), Reader(TextCall)


def understood(
    dialect: type, fields: dict[str, Any], supports: Iterable[Feature] = EVERYTHING
) -> tuple[list[str], Sampling]:
    """Read a call as the gateway does; return the warnings and what the engine is told."""
    supports = frozenset(supports)
    info = EngineInfo(name="e", context_tokens_max=1_000, running_max=1, supports=supports)
    converter = Converter(GatewayConfig(), info)
    body = json.dumps(REQUIRED[dialect] | fields).encode()
    if dialect is ChatCall:
        call = CHATS.read(body)
        warnings = Surface(ChatCall, supports).check(call)
        assert isinstance(converter.chat(call, converter.toolbox(call)), Chat)
        return [*warnings, *message_warnings(call.messages)], converter.sampling(call)
    text = TEXTS.read(body)
    warnings = Surface(TextCall, supports).check(text)
    converter.prompt(text)
    return warnings, converter.sampling(text)


@pytest.mark.parametrize("dialect", parameters.TABLES)
def test_the_table_and_the_schema_name_the_same_parameters(dialect: Any) -> None:
    rows = [parameter.name for parameter in parameters.TABLES[dialect]]
    assert sorted(rows) == sorted(dialect.__struct_fields__)


@pytest.mark.parametrize(
    ("dialect", "openai"),
    [
        (
            ChatCall,
            (
                openai_chat.CompletionCreateParamsNonStreaming,
                openai_chat.CompletionCreateParamsStreaming,
            ),
        ),
        (
            TextCall,
            (
                openai_text.CompletionCreateParamsNonStreaming,
                openai_text.CompletionCreateParamsStreaming,
            ),
        ),
    ],
)
def test_every_parameter_of_the_openai_package_is_known(dialect: Any, openai: Any) -> None:
    theirs = {name for params in openai for name in params.__annotations__}
    extensions = {"ignore_eos", "min_p", "min_tokens", "top_k", "response_format"}
    assert theirs <= set(dialect.__struct_fields__)
    assert set(dialect.__struct_fields__) - theirs <= extensions


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-3, 3)
    | st.sampled_from(["", "none", "auto", "text", "x", "json_object"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "include_usage", "a"]), inner, max_size=2)
    ),
    max_leaves=3,
)
# What an engine is told where nothing, or the neutral value, was asked for.
SAMPLED = {
    "max_tokens": "tokens_max",
    "max_completion_tokens": "tokens_max",
    "min_tokens": "tokens_min",
    "n": "choices",
    "response_format": "grammar",
}
# Honoured by the gateway itself, not by the engine.
BY_THE_GATEWAY = frozenset({"model", "messages", "prompt", "stream", "stream_options", "best_of"})


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_each_value_of_each_parameter_is_honoured_refused_or_warned_of(data: st.DataObject) -> None:
    dialect: Any = data.draw(st.sampled_from([ChatCall, TextCall]))
    table = [p for p in parameters.TABLES[dialect] if p.name not in REQUIRED[dialect]]
    parameter = data.draw(st.sampled_from(table))
    supports = data.draw(st.sampled_from([EVERYTHING, frozenset({Feature.CHAT, Feature.TEXT})]))
    value = data.draw(JSON_VALUES)
    plain = understood(dialect, {}, supports)[1]
    try:
        warnings, sampling = understood(dialect, {parameter.name: value}, supports)
    except Invalid as refusal:
        named = refusal.param or ""
        if named.split(".")[0].split("[")[0] == parameter.name:
            return
        raise
    asks_for_nothing = value is None or any(
        value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
        for neutral in parameter.neutral
    )
    if asks_for_nothing or parameter.name in BY_THE_GATEWAY:
        return
    if parameter.name in warnings:
        assert parameter.verdict is Verdict.WARNED
        return
    assert parameter.on(supports) is Verdict.HONOURED, f"{parameter.name}={value} was dropped"
    field = SAMPLED.get(parameter.name, parameter.name)
    if getattr(sampling, field) == getattr(plain, field):
        # Accepted, and nothing changed: right only for a value that asks for the default.
        defaults: dict[str, list[object]] = {
            "stop": [[]],
            "response_format": [{"type": "text"}],
            "max_tokens": [16],
        }
        assert value in defaults.get(parameter.name, [])


@settings(max_examples=300, deadline=None)
@given(name=st.text(max_size=80), value=st.integers())
def test_an_unknown_name_is_refused_by_name(name: str, value: int) -> None:
    if name in ChatCall.__struct_fields__:
        return
    with pytest.raises(Invalid) as refusal:
        understood(ChatCall, {name: value})
    assert refusal.value.param is not None
    assert refusal.value.param.isprintable()
    assert len(refusal.value.message) < 300


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_the_body_is_the_reader_answers(body: bytes) -> None:
    with pytest.raises(Invalid):
        CHATS.read(body)


@pytest.mark.parametrize("parameter", parameters.CHAT, ids=lambda parameter: parameter.name)
def test_neutral_values_pass_on_an_engine_that_can_only_chat(parameter: Parameter) -> None:
    for neutral in parameter.neutral:
        warnings, _ = understood(ChatCall, {parameter.name: neutral}, {Feature.CHAT})
        assert warnings == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("top_k", 5),
        ("min_p", 0.5),
        ("seed", 1),
        ("stop", "x"),
        ("n", 2),
        ("presence_penalty", 1),
        ("frequency_penalty", 1),
        ("logprobs", True),
        ("ignore_eos", True),
        ("min_tokens", 1),
        ("response_format", {"type": "json_object"}),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(name: str, value: object) -> None:
    understood(ChatCall, {name: value})
    with pytest.raises(Invalid, match="cannot do") as refusal:
        understood(ChatCall, {name: value}, {Feature.CHAT})
    assert (refusal.value.param or "").split(".")[0] == name


def test_every_note_is_a_sentence_for_people() -> None:
    for parameter in (*parameters.CHAT, *parameters.TEXT):
        assert parameter.note.endswith(".")
        assert len(parameter.note) < 100


def test_a_long_value_is_not_parsed_to_see_whether_it_is_neutral() -> None:
    with pytest.raises(Invalid, match="functions: not supported"):
        understood(ChatCall, {"functions": [{"name": "x" * 100}]})


def test_a_number_that_fits_nowhere_is_not_neutral() -> None:
    body = json.dumps(REQUIRED[ChatCall])[:-1] + ',"logit_bias":1e999}'
    with pytest.raises(Invalid, match="logit_bias: not supported"):
        Surface(ChatCall, EVERYTHING).check(CHATS.read(body.encode()))


def test_null_in_what_is_skipped_is_as_good_as_nothing() -> None:
    assert understood(ChatCall, {"tools": None, "user": None, "audio": None})[0] == []


def test_what_a_client_does_not_name_is_sampled_as_the_model_is_best() -> None:
    advice = SamplingAdvice(temperature=0.2, top_p=0.9)
    info = EngineInfo(name="e", context_tokens_max=9, running_max=1, supports=EVERYTHING)
    converter = Converter(GatewayConfig(), info, advice)
    silent = converter.sampling(ChatCall(model="m", messages=[]))
    outspoken = converter.sampling(ChatCall(model="m", messages=[], temperature=1, top_p=1))
    assert (silent.temperature, silent.top_p) == (0.2, 0.9)
    assert (outspoken.temperature, outspoken.top_p) == (1, 1)
