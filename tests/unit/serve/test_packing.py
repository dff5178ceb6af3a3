import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.request import (
    Admitted,
    Begun,
    Delta,
    Event,
    Finished,
    FinishReason,
    Route,
    Scheduled,
    Source,
    TokenLogprob,
    Usage,
)
from forebay.serve.packing import Unreadable, pack, unpack, weight

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ODDS = st.builds(TokenLogprob, TEXTS, st.binary(max_size=8), st.floats(allow_nan=False))
DELTAS = st.builds(
    Delta,
    TEXTS,
    tokens=st.integers(0, 1000),
    choice=st.integers(0, 9),
    finish_reason=st.sampled_from([None, *FinishReason]),
    logprobs=st.lists(ODDS, max_size=3).map(tuple),
    more=st.just(True),
)
NAME = Begun(
    completion_id="chatcmpl-1",
    created=1_700_000_000,
    route=Route.COMPLETIONS,
    model="org/model-é",
    choices=3,
    shape="usage",
    imprint="fp_1",
    source=Source.ENGINE,
    resumable=True,
)


@given(st.lists(DELTAS, max_size=20), st.integers(0, 10**9), st.integers(0, 10**9))
def test_an_answer_is_read_as_it_was_written(deltas: list[Delta], asked: int, made: int) -> None:
    events: list[Event] = [Admitted(0.5), Scheduled(7), *deltas]
    name, again = unpack(pack(NAME, events, Usage(asked, made)))
    assert again == [*deltas, Finished(Usage(asked, made))]
    assert (name.completion_id, name.created, name.route) == (
        NAME.completion_id,
        NAME.created,
        NAME.route,
    )
    assert (name.model, name.choices, name.shape) == (NAME.model, NAME.choices, NAME.shape)
    assert (name.imprint, name.source, name.resumable) == ("fp_1", Source.REPLAYED, True)


@given(st.binary(max_size=200))
def test_bytes_of_anything_are_unreadable_and_nothing_worse(blob: bytes) -> None:
    with pytest.raises(Unreadable):
        unpack(blob)


def test_an_answer_that_was_changed_is_unreadable_or_another_answer() -> None:
    blob = pack(NAME, [Delta("hello", finish_reason=FinishReason.STOP)], Usage(1, 1))
    unreadable = 0
    for place in range(len(blob)):
        for byte in (0x00, 0xC1, 0xFF):
            try:
                unpack(blob[:place] + bytes([byte]) + blob[place + 1 :])
            except Unreadable:
                unreadable += 1
    assert unreadable > len(blob)


def test_an_event_weighs_at_least_its_text() -> None:
    assert weight(Delta("x" * 1_000)) >= 1_000
    assert weight(Delta("\N{SNOWMAN}" * 1_000)) >= 2_000
    assert weight(Delta("", logprobs=(TokenLogprob("a", b"a", -1.0),) * 10)) >= 1_000
    assert weight(Finished(Usage(1, 1))) > 0
