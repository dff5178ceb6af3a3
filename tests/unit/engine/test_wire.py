"""Messages survive the journey, and garbage is recognised, however it is cut."""

import contextlib
import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.errors import Outcome
from forebay.core.request import (
    Chat,
    FinishReason,
    JsonObject,
    JsonSchema,
    Made,
    Message,
    Prompt,
    Role,
    Sampling,
    Text,
    TokenIds,
    TokenLogprob,
)
from forebay.core.tooling import Tool, ToolCall, Tooling, ToolTurn
from forebay.engine.protocol import EngineInfo, Feature, StepStats
from forebay.engine.wire import (
    Abort,
    Beat,
    ChatPrompt,
    Down,
    End,
    Fault,
    FrameReader,
    Freed,
    Garbage,
    Hello,
    Kept,
    Load,
    Piece,
    Ready,
    Step,
    Stop,
    Submit,
    Taken,
    TextPrompt,
    TokensPrompt,
    Up,
    WireSampling,
    frame,
    pack_prompt,
    pack_sampling,
    unpack_sampling,
)

BYTES_MAX = 100_000

LONG_SAMPLING = Sampling(tokens_max=3, seed=2**62, stop=("a", "é"), choices=2, logprobs=True)

DOWN: list[Down] = [
    Load("scripted", {"decode_s": 0.1, "directions": True}, "/models/x", 0.25),
    Submit(
        *(1, TextPrompt("hällo"), pack_sampling(LONG_SAMPLING)),
        stream=True,
        time_left_s=1.5,
        made=(Made(token_ids=(2**57, 3), characters=2, tokens=1), Made(finished=True)),
    ),
    Abort(2**40),
    Stop(),
]
INFO = EngineInfo(
    name="x", context_tokens_max=9, running_max=2, supports=frozenset({Feature.CHAT, Feature.STOP})
)
UP: list[Up] = [
    Hello(77, 1),
    Ready(INFO),
    Step(
        [Taken(1, 5)],
        [Piece(1, "hé", 2, 1, FinishReason.STOP, (TokenLogprob("h", b"\xff", -0.5),), (5, 2**57))],
        [End(1, 5, 2, 0.1, None)],
        7,
        StepStats(1, 2, 0.5, 7),
        [Freed(4, 30, 2)],
        slow=True,
        kept=[Kept(2, 1, (2**57,))],
    ),
    Beat(7, StepStats(0, 0, 0.0, 7)),
    Fault(3, Outcome.INVALID, "no", "prompt"),
    Fault(None, Outcome.ENGINE_ERROR, "lost"),
]


def reader(kinds: Any, bytes_max: int = BYTES_MAX) -> FrameReader[Any]:
    return FrameReader(kinds, bytes_max)


@pytest.mark.parametrize(("kinds", "messages"), [(Down, DOWN), (Up, UP)], ids=["down", "up"])
def test_every_message_arrives_as_it_left(kinds: Any, messages: list[Any]) -> None:
    sent = b"".join(frame(message) for message in messages)
    assert reader(kinds).feed(sent) == messages


@given(st.data())
def test_it_does_not_matter_where_the_bytes_are_cut(data: st.DataObject) -> None:
    sent = b"".join(frame(message) for message in UP)
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=20).map(sorted))
    reading = reader(Up)
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        found += reading.feed(sent[start:end])
    assert found == UP


@given(st.binary(max_size=300))
def test_random_bytes_are_garbage_or_not_yet_a_frame(junk: bytes) -> None:
    with contextlib.suppress(Garbage):
        assert reader(Up).feed(junk) == []


@given(st.binary(min_size=1, max_size=300))
def test_a_frame_of_random_bytes_is_garbage(junk: bytes) -> None:
    with pytest.raises(Garbage):
        reader(Up).feed(len(junk).to_bytes(4, "big") + junk)


@given(st.sampled_from(UP), st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_frame_is_garbage_or_another_message(message: Up, place: int, byte: int) -> None:
    sent = bytearray(frame(message))
    sent[4 + place % (len(sent) - 4)] = byte
    try:
        found = reader(Up).feed(bytes(sent))
    except Garbage:
        return
    assert all(isinstance(each, Hello | Ready | Step | Beat | Fault) for each in found)


def test_a_frame_that_is_too_long_is_refused_by_its_length_alone() -> None:
    with pytest.raises(Garbage):
        reader(Up, 10).feed((11).to_bytes(4, "big"))
    assert reader(Up, 10).feed((10).to_bytes(4, "big")) == []


def test_a_message_of_the_other_direction_is_garbage() -> None:
    with pytest.raises(Garbage):
        reader(Up).feed(frame(Stop()))


def test_an_unknown_finish_reason_is_garbage() -> None:
    piece = Piece(1, "x", 1, 0, "tired")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(Garbage):
        reader(Up).feed(frame(Step([], [piece], [], 1)))


@pytest.mark.parametrize(
    ("prompt", "travelled"),
    [
        (
            Chat(messages=(Message(role=Role.USER, content="x"),)),
            ChatPrompt((Message(role=Role.USER, content="x"),)),
        ),
        (Text(text="x"), TextPrompt("x")),
        (TokenIds(ids=(1, 2)), TokensPrompt((1, 2))),
    ],
)
def test_prompts_travel_by_kind(prompt: Prompt, travelled: object) -> None:
    assert pack_prompt(prompt) == travelled


def test_what_a_conversation_has_to_do_with_tools_travels_whole() -> None:
    tooling = Tooling(
        tools=(Tool(name="f", description="d", parameters="{}"),),
        turns=(
            ToolTurn(index=1, calls=(ToolCall(id="a", name="f", arguments="{}"),)),
            ToolTurn(index=2, answers="a", name="f"),
        ),
    )
    prompt = Chat(messages=(Message(role=Role.USER, content="x"),), tooling=tooling)
    sent = msgspec.msgpack.encode(pack_prompt(prompt))
    back = msgspec.msgpack.decode(sent, type=ChatPrompt)
    assert (back.messages, back.tooling) == (prompt.messages, tooling)


@pytest.mark.parametrize("grammar", [None, JsonObject(), JsonSchema(schema='{"type":"object"}')])
def test_sampling_comes_back_as_it_was(grammar: JsonObject | JsonSchema | None) -> None:
    sampling = dataclasses.replace(LONG_SAMPLING, grammar=grammar)
    sent = msgspec.msgpack.encode(pack_sampling(sampling))
    back = unpack_sampling(msgspec.msgpack.decode(sent, type=WireSampling))
    assert back == sampling


def test_what_travels_of_sampling_is_all_of_it() -> None:
    fields = [field.name for field in dataclasses.fields(Sampling)]
    assert sorted(WireSampling.__struct_fields__) == sorted(fields)


def test_fields_can_be_changed_on_arrival() -> None:
    packed = pack_sampling(LONG_SAMPLING)
    assert unpack_sampling(packed, seed=5, tokens_max=9) == dataclasses.replace(
        LONG_SAMPLING, seed=5, tokens_max=9
    )
