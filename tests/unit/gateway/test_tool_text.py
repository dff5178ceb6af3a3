"""A model's words for a tool call: found in any pieces, never leaked in part."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.core.request import FinishReason
from forebay.gateway.tool_text import Argued, Called, Part, Said, ToolText

NAMES = frozenset({"weather", "time"})
WEATHER = '{"name": "weather", "arguments": {"city": "Paris"}}'
TIME = '{"name": "time", "arguments": {}}'


def told(
    text: str,
    *,
    cuts: list[int] | None = None,
    reason: FinishReason = FinishReason.STOP,
    **how: Any,
) -> tuple[str, list[tuple[str, str]]]:
    """Read a text in pieces; return the content and the calls."""
    reader = ToolText(NAMES, **how)
    places = [0, *sorted(cuts or []), len(text)]
    parts: list[Part] = []
    for start, end in itertools.pairwise(places):
        parts += reader.push(text[start:end])
    parts += reader.close(reason)
    names = [part.name for part in parts if isinstance(part, Called)]
    arguments = [""] * len(names)
    for part in parts:
        if isinstance(part, Argued):
            arguments[part.index] += part.text
    said = "".join(part.text for part in parts if isinstance(part, Said))
    return said, list(zip(names, arguments, strict=True))


CALL = ("weather", '{"city": "Paris"}')
FORMS = {
    "hermes": (f"<tool_call>\n{WEATHER}\n</tool_call>", "", [CALL]),
    "hermes, twice": (
        f"<tool_call>{WEATHER}</tool_call>\n<tool_call>\n{TIME}\n</tool_call>\n",
        "",
        [CALL, ("time", "{}")],
    ),
    "after a text": (f"Let me see.\n<tool_call>{WEATHER}</tool_call>", "Let me see.", [CALL]),
    "before a text": (f"<tool_call>{WEATHER}</tool_call> So.", "So.", [CALL]),
    "before a comma": (f"<tool_call>{WEATHER}, so.", "so.", [CALL]),
    "llama": ('{"name": "weather", "parameters": {"city": "Paris"}}', "", [CALL]),
    "llama, twice": (
        '{"name": "weather", "parameters": {"city": "Paris"}}; {"name": "time", "parameters": {}}',
        "",
        [CALL, ("time", "{}")],
    ),
    "llama, with its type": (
        '{"type": "function", "name": "weather", "parameters": {"city": "Paris"}}',
        "",
        [CALL],
    ),
    "a python tag": (f"<|python_tag|>{WEATHER}", "", [CALL]),
    "mistral": (f"[TOOL_CALLS] [{WEATHER}, {TIME}]", "", [CALL, ("time", "{}")]),
    "mistral, its token unseen": (f" [{WEATHER}]", "", [CALL]),
    "an id behind": (
        '[{"name": "weather", "arguments": {"city": "Paris"}, "id": "9"}]',
        "",
        [CALL],
    ),
    "a grammar's array": (f"[{WEATHER},{TIME}]", "", [CALL, ("time", "{}")]),
    "brackets and quotes in a text": (
        r'<tool_call>{"name": "weather", "arguments": {"c": "}]\"{</tool_call>\\"}}</tool_call>',
        "",
        [("weather", r'{"c": "}]\"{</tool_call>\\"}')],
    ),
    "arguments first": ('{"arguments": {"city": "Paris"}, "name": "weather"}', "", [CALL]),
    "arguments as a text": (
        json.dumps({"name": "weather", "arguments": '{"city": "Paris"}'}),
        "",
        [CALL],
    ),
    "no arguments": ('{"name": "time"}', "", [("time", "{}")]),
    "null arguments": ('{"name": "time", "arguments": null}', "", [("time", "{}")]),
    "a brace too few": (
        '<tool_call>{"name": "time", "arguments": {"a": [1}</tool_call>' + f"<tool_call>{TIME}",
        "",
        [("time", '{"a": [1}'), ("time", "{}")],
    ),
    "an object left open": (
        '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}\n</tool_call>',
        "",
        [CALL],
    ),
}
TEXTS = {
    "plain": "It rains in Paris.",
    "empty": "",
    "white space": " \n ",
    "white space around": "  Yes. \n",
    "the beginning of markup": "a <tool_call",
    "an unknown function": '<tool_call>{"name": "bomb", "arguments": {}}</tool_call>',
    "talk of markup": "Write <tool_call> and then </tool_call>, in [TOOL_CALLS] or so.",
    "an object that is an answer": '{"answer": 42, "name": "weather"}',
    "an array that is an answer": "[1, 2]",
    "a list of objects": '[{"a": 1}]',
    "JSON in the middle": f"Send {WEATHER} to it.",
    "a name that is none": '{"name": {"name": 1}, "arguments": {}}',
    "an object of nothing": "{}",
    "half an object": '{"name": "wea',
    "no colon": '{"name" "weather"}',
    "a stray word": '{"name": weather}',
    "too long a beginning": '{"id": "' + "x" * 3_000 + '", "name": "time", "arguments": {}}',
}


@pytest.mark.parametrize(("text", "said", "calls"), FORMS.values(), ids=FORMS)
def test_calls_are_found_in_every_known_form(
    text: str, said: str, calls: list[tuple[str, str]]
) -> None:
    assert told(text) == (said, calls)
    assert told(text, cuts=list(range(len(text)))) == (said, calls)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_no_call_is_content_word_for_word(text: str) -> None:
    assert told(text) == (text, [])
    assert told(text, cuts=list(range(len(text)))) == (text, [])


PIECES = st.lists(
    st.sampled_from(
        [
            *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", WEATHER, TIME),
            *("<tool", "{", "}", "[", "]", '"', "\\", ",", ":", " ", "\n", "x", "name", "<"),
            *('{"name": "time"', '"arguments": {', '"id": 1', '{"name": "no"', "]}"),
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=1_500, deadline=None)
@given(PIECES, st.data())
def test_where_the_pieces_were_cut_makes_no_difference(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    how: dict[str, Any] = data.draw(
        st.fixed_dictionaries({"single": st.booleans(), "reason": st.sampled_from(FinishReason)})
    )
    assert told(text, cuts=cuts, **how) == told(text, **how)


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="<[{"), max_size=60))
def test_text_without_markup_is_content(text: str) -> None:
    assert told(text) == (text, [])


def test_arguments_are_passed_on_as_they_come() -> None:
    reader = ToolText(NAMES)
    assert reader.push('<tool_call>{"name": "weather", "arguments": ') == []
    assert reader.push('{"ci') == [Called(0, "weather"), Argued(0, '{"ci')]
    assert reader.push('ty": "Par') == [Argued(0, 'ty": "Par')]
    assert reader.push('is"}}') == [Argued(0, 'is"}')]
    assert reader.close(FinishReason.STOP) == []
    assert reader.finish(FinishReason.STOP) == "tool_calls"


def test_content_is_passed_on_as_soon_as_it_cannot_be_markup() -> None:
    reader = ToolText(NAMES)
    assert reader.push("It") == [Said("It")]
    assert reader.push(" rains <to") == [Said(" rains")]
    assert reader.push("day>") == [Said(" <today>")]
    assert reader.finish(FinishReason.STOP) == "stop"


def test_markup_that_was_cut_short_is_not_content() -> None:
    text = '<tool_call>{"name": "wea'
    assert told(text, reason=FinishReason.LENGTH) == ("", [])
    assert told('{"na', reason=FinishReason.LENGTH, forced=True) == ("", [])
    assert told(" [", reason=FinishReason.LENGTH, forced=True) == ("", [])
    assert told('{"na', reason=FinishReason.LENGTH) == ('{"na', [])


def test_a_call_that_was_cut_short_ends_with_length() -> None:
    reader = ToolText(NAMES, forced=True)
    parts = reader.push('{"name": "time", "arguments": {"zone": "U')
    assert parts == [Called(0, "time"), Argued(0, '{"zone": "U')]
    assert reader.close(FinishReason.LENGTH) == []
    assert reader.finish(FinishReason.LENGTH) == "length"


def test_where_one_call_was_asked_for_no_more_are_given() -> None:
    text = f"<tool_call>{WEATHER}</tool_call><tool_call>{TIME}</tool_call> And so on."
    assert told(text, single=True) == ("", [CALL])


@pytest.mark.parametrize("part", ["<tool_call>", "<tool_call>{", " ", "[TOOL_CALLS] [", '{"id":1,'])
def test_what_is_held_back_is_bounded(part: str) -> None:
    reader = ToolText(NAMES)
    held = 0
    for _ in range(3_000):
        reader.push(part)
        held = max(held, len(reader._held))
    assert held <= 2_048 + len(part)
