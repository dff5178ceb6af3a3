"""What an upstream answers: read however it is cut, and counted to the token."""

import msgspec
import pytest

from forebay.core.request import Delta, FinishReason, Request, Usage
from forebay.engines.upstream_answer import Reader
from forebay.engines.upstream_fault import Fault, Reason
from tests.support.upstreams import DONE, LAST, event, wish

LINE_BYTES_MAX = 2_000


def reader(request: Request | None = None, *, chat: bool = True) -> Reader:
    return Reader(request or wish(), chat=chat, line_bytes_max=LINE_BYTES_MAX)


def read(
    data: bytes, size: int, request: Request | None = None
) -> tuple[list[Delta], Usage | None]:
    found, deltas = reader(request), []
    for start in range(0, len(data), size):
        deltas += found.feed(data[start : start + size])
    held, usage = found.end()
    return deltas + held, usage


STREAM = event(b"", index=0) + event("naïve ".encode()) + b": beat\n\n" + event(b"two") + LAST


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_stream_reads_the_same_however_it_is_cut(size: int, end: bytes) -> None:
    deltas, usage = read(STREAM.replace(b"\n", end), size)
    assert [delta.text for delta in deltas] == ["naïve ", "two", ""]
    assert deltas[-1].finish_reason is FinishReason.STOP
    assert usage == Usage(3, 2)
    assert sum(delta.tokens for delta in deltas) == 2


def test_the_last_piece_makes_up_for_tokens_that_no_piece_showed() -> None:
    data = event(b"one two three") + LAST.replace(
        b'"completion_tokens":2', b'"completion_tokens":9'
    )
    deltas, _ = read(data, 100)
    assert [delta.tokens for delta in deltas] == [1, 8]


def test_a_stream_without_usage_is_counted_by_its_pieces() -> None:
    deltas, usage = read(event(b"a") + event(b"b", reason=b'"length"') + DONE, 50)
    assert usage is None
    assert sum(delta.tokens for delta in deltas) == 2


def test_a_stream_that_never_says_done_is_whole_if_each_choice_has_ended() -> None:
    deltas, _ = read(event(b"a", reason=b'"stop"'), 50)
    assert [delta.text for delta in deltas] == ["a"]


def test_each_choice_ends_by_itself_and_the_last_waits_for_the_usage() -> None:
    found = reader(wish(choices=2))
    first = found.feed(event(b"a", index=1, reason=b'"stop"'))
    assert [(delta.choice, delta.finish_reason) for delta in first] == [(1, FinishReason.STOP)]
    assert found.feed(event(b"b", index=0, reason=b'"length"')) == []
    found.feed(DONE)
    held, _ = found.end()
    assert [(delta.text, delta.choice) for delta in held] == [("b", 0)]


def test_an_empty_event_for_a_choice_that_has_ended_is_no_lie() -> None:
    deltas, _ = read(event(b"a", reason=b'"stop"') + event(b"", reason=b'"stop"') + DONE, 999)
    assert [delta.text for delta in deltas] == ["a"]


def test_odds_are_read_where_they_were_asked_for_only() -> None:
    odds = b'"logprobs":{"content":[{"token":"\\u00e9","logprob":-0.5,"bytes":[195,169]}]},'
    data = event("é".encode()).replace(b'"finish_reason"', odds + b'"finish_reason"') + LAST
    with_odds, _ = read(data, 999, wish(logprobs=True))
    assert [(o.text, o.utf8, o.logprob) for o in with_odds[0].logprobs] == [
        ("é", b"\xc3\xa9", -0.5)
    ]
    assert read(data, 999)[0][0].logprobs == ()


def test_odds_that_were_asked_for_and_left_out_are_a_fault_and_not_silence() -> None:
    with pytest.raises(Fault, match="odds"):
        read(event(b"a") + LAST, 999, wish(logprobs=True))
    body = b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}'
    with pytest.raises(Fault, match="odds"):
        reader(wish(logprobs=True)).whole(body)


def test_plain_prompts_have_their_odds_in_either_shape() -> None:
    first = b'{"tokens":["a"],"token_logprobs":[-1.5],"text_offset":[0]}'
    second = b'{"content":[{"token":"a","logprob":-1.5,"bytes":[97]}]}'
    form = b'{"choices":[{"index":0,"text":"a","finish_reason":"stop","logprobs":%b}]}'
    for shape in (first, second):
        deltas, _ = reader(wish(logprobs=True), chat=False).whole(form % shape)
        assert [(o.text, o.utf8, o.logprob) for o in deltas[0].logprobs] == [("a", b"a", -1.5)]


def test_a_token_whose_odds_nobody_tells_is_not_called_certain() -> None:
    odds = b'{"tokens":["a"],"token_logprobs":[null],"text_offset":[0]}'
    form = b'{"choices":[{"index":0,"text":"a","finish_reason":"stop","logprobs":%b}]}'
    deltas, _ = reader(wish(logprobs=True), chat=False).whole(form % odds)
    assert [each.logprob for each in deltas[0].logprobs] == [-9_999.0]


@pytest.mark.parametrize("body", [b'{"error":null,"choices":[]}', b'{"choices":null}'])
def test_nulls_are_as_good_as_nothing(body: bytes) -> None:
    found = reader()
    assert found.feed(b"data: " + body + b"\n\n") == []


def test_a_line_is_refused_when_it_is_too_long_and_not_later() -> None:
    found = reader()
    for _ in range(LINE_BYTES_MAX):
        found.feed(b"x")
    with pytest.raises(Fault) as fault:
        found.feed(b"x")
    assert fault.value.reason is Reason.TOO_LONG


def test_tokens_of_a_whole_answer_are_shared_out_and_add_up() -> None:
    choice = {"message": {"content": "a"}, "finish_reason": "stop"}
    body = msgspec.json.encode(
        {
            "choices": [{"index": index, **choice} for index in range(3)],
            "usage": {"prompt_tokens": 4, "completion_tokens": 11},
        }
    )
    deltas, usage = reader(wish(choices=3)).whole(body)
    assert usage == Usage(4, 11)
    assert [delta.tokens for delta in deltas] == [3, 3, 5]


def test_a_choice_that_is_told_twice_is_refused() -> None:
    choice = b'{"index":0,"message":{"content":"a"},"finish_reason":"stop"}'
    with pytest.raises(Fault) as fault:
        reader().whole(b'{"choices":[%b,%b]}' % (choice, choice))
    assert fault.value.reason is Reason.NONSENSE
