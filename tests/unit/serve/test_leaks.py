"""The secret word goes into system messages, and never out in an answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.errors import Refused
from forebay.core.request import (
    Chat,
    Delta,
    Event,
    Events,
    Finished,
    FinishReason,
    Message,
    Role,
    Text,
    TokenLogprob,
    Usage,
)
from forebay.serve.leaks import Leaks, ended, noted
from tests.support.requests import a_request

WORD = "ZABZAA"
END = Finished(usage=Usage(prompt_tokens=1, completion_tokens=1))


def a_chat(*turns: tuple[Role, str]) -> Chat:
    return Chat(messages=tuple(Message(role=role, content=text) for role, text in turns))


async def told(events: Sequence[Event]) -> Events:
    for event in events:
        yield event


def deltas(text: str, cuts: Sequence[int], *, choice: int = 0) -> list[Delta]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    made = [
        Delta(
            text=text[a:b],
            choice=choice,
            token_ids=(n,),
            logprobs=(TokenLogprob(text[a:b], text[a:b].encode(), -1.0),),
        )
        for n, (a, b) in enumerate(pairwise(edges))
    ]
    made[-1].finish_reason = FinishReason.STOP
    return made


async def read(events: AsyncIterator[Event]) -> tuple[list[Event], bool]:
    """Return what came, and whether it ended by a refusal."""
    came: list[Event] = []
    try:
        async for event in events:
            came.append(event)  # noqa: PERF401 - what came before the refusal is wanted
    except Refused:
        return came, True
    return came, False


def only_deltas(events: Sequence[Event], choice: int = 0) -> list[Delta]:
    return [each for each in events if isinstance(each, Delta) and each.choice == choice]


def test_the_word_stands_in_the_first_system_message_only() -> None:
    leaks = Leaks("secret")
    prompt = a_chat((Role.USER, "u"), (Role.SYSTEM, "s"), (Role.SYSTEM, "t"))
    marked = leaks.marked(a_request(prompt=prompt))
    assert isinstance(marked.prompt, Chat)
    word = leaks.word_in(marked)
    assert [word in each.content for each in marked.prompt.messages] == [False, True, False]
    assert marked.prompt.messages[1].content.startswith("s\n")


@pytest.mark.parametrize("prompt", [a_chat((Role.USER, "hi")), Text(text="hi")])
def test_without_a_system_message_nothing_is_added(prompt: Chat | Text) -> None:
    leaks, request = Leaks("secret"), a_request(prompt=prompt)
    assert leaks.marked(request) is request
    assert leaks.word_in(request) == ""


def test_a_word_that_a_user_wrote_is_none_of_ours() -> None:
    leaks = Leaks("secret")
    word = leaks.word_in(leaks.marked(a_request(prompt=a_chat((Role.SYSTEM, "s")))))
    assert leaks.word_in(a_request(prompt=a_chat((Role.USER, word)))) == ""


def test_tenants_have_words_of_their_own_and_secrets_are_per_process() -> None:
    prompt = a_chat((Role.SYSTEM, "s"))
    words = set()
    for leaks in (Leaks(""), Leaks("")):
        for tenant in ("a", "b"):
            words.add(leaks.word_in(leaks.marked(a_request(prompt=prompt, tenant=tenant))))
    assert len(words) == 4


@given(st.text("ZAB ", max_size=40), st.lists(st.integers(0, 60), max_size=9))
def test_an_answer_without_the_word_comes_through_whole(text: str, cuts: list[int]) -> None:
    while WORD in text:
        text = text.replace(WORD, "")
    sent = deltas(text, cuts)
    leaks: list[int] = []
    came, refused = asyncio.run(read(ended(told([*sent, END]), WORD, lambda: leaks.append(1))))
    found = only_deltas(came)
    assert not refused
    assert not leaks
    assert "".join(each.text for each in found) == text
    assert sum(each.tokens for each in found) == len(sent)
    assert [id for each in found for id in each.token_ids] == list(range(len(sent)))
    odds = "".join(odd.text for each in found for odd in each.logprobs)
    assert odds == text
    assert [each.finish_reason for each in found if each.finish_reason] == [FinishReason.STOP]
    assert found[-1].finish_reason is FinishReason.STOP
    assert came[-1] is END


@given(
    st.text("ZAB ", max_size=20),
    st.text("ZAB ", max_size=20),
    st.lists(st.integers(0, 60), max_size=12),
)
def test_nothing_of_the_word_is_shown_however_the_answer_is_cut(
    before: str, after: str, cuts: list[int]
) -> None:
    text = before + WORD + after
    leaks: list[int] = []
    events = ended(told([*deltas(text, cuts), END]), WORD, lambda: leaks.append(1))
    came, refused = asyncio.run(read(events))
    shown = "".join(each.text for each in only_deltas(came))
    odds = "".join(odd.text for each in only_deltas(came) for odd in each.logprobs)
    first = text.index(WORD)
    assert refused
    assert leaks == [1]
    assert text.startswith(shown)
    assert len(shown) <= first
    assert len(odds) <= first


@given(st.text("ZAB ", max_size=30), st.lists(st.integers(0, 40), max_size=9))
def test_no_more_is_held_back_than_the_words_length(text: str, cuts: list[int]) -> None:
    while WORD in text:
        text = text.replace(WORD, "")
    sent = deltas(text, cuts)

    async def lag() -> None:
        told_so_far = 0

        async def source() -> Events:
            nonlocal told_so_far
            for each in sent:
                told_so_far += len(each.text)
                yield each

        shown = 0
        async for event in ended(source(), WORD, lambda: None):
            assert isinstance(event, Delta)
            shown += len(event.text)
            assert told_so_far - shown < len(WORD)

    asyncio.run(lag())


async def test_choices_are_watched_each_for_itself() -> None:
    first, second = deltas("ZAB", [1]), deltas("ZAA", [1], choice=1)
    mixed = [event for pair in zip(first, second, strict=True) for event in pair]
    came, refused = await read(ended(told([*mixed, END]), WORD, lambda: None))
    assert not refused
    assert "".join(each.text for each in only_deltas(came)) == "ZAB"
    assert "".join(each.text for each in only_deltas(came, 1)) == "ZAA"


async def test_what_is_held_comes_before_the_end_though_no_delta_was_the_last() -> None:
    came, _ = await read(ended(told([Delta(text="so ZAB"), END]), WORD, lambda: None))
    assert "".join(each.text for each in only_deltas(came)) == "so ZAB"
    assert came[-1] is END


async def test_deltas_that_hold_nothing_are_passed_on_untouched() -> None:
    sent: list[Event] = [Delta(text="hello "), Delta(text="there"), END]
    came, _ = await read(ended(told(sent), WORD, lambda: None))
    assert all(a is b for a, b in zip(came, sent, strict=True))


async def test_an_answer_that_is_only_noted_is_passed_on_untouched() -> None:
    sent: list[Event] = [*deltas(f"{WORD} and {WORD}", [3, 9]), END]
    leaks: list[int] = []
    came, refused = await read(noted(told(sent), WORD, lambda: leaks.append(1)))
    assert came == sent
    assert leaks == [1], "once, however often it is there"
    assert not refused


async def test_closing_the_watched_answer_closes_the_answer() -> None:
    closed: list[str] = []

    async def source() -> Events:
        try:
            yield Delta(text="a")
            yield Delta(text="b")
        finally:
            closed.append("closed")

    for watched in (ended, noted):
        events = watched(source(), WORD, lambda: None)
        await anext(events)
        await events.aclose()
    assert closed == ["closed", "closed"]
