"""The load tool reads the same answer however the network cuts it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.bench.answer import Answer, BadAnswer

HEAD = b"HTTP/1.1 200 OK\r\ndate: today\r\n"
EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n',
    *(
        b'data: {"choices":[{"delta":{"content":"w%d \\n\\n \\r\\n 0\\r\\n"}}]}\n\n' % i
        for i in range(5)
    ),
    b": a comment\n\n",
    b'id: 7\ndata: {"choices":[]}\n\n',
    b"data: [DONE]\n\n",
)


def chunked(pieces: list[bytes]) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return body + b"0\r\n\r\n"


def stream(pieces: list[bytes]) -> bytes:
    head = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return HEAD + head + chunked(pieces)


def fed(data: bytes, cuts: list[int], *, skip: int = 0) -> Answer:
    answer = Answer.expected(events_to_skip=skip)
    places = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    for number, (start, end) in enumerate(itertools.pairwise(places)):
        answer.feed(data[start:end], float(number))
    return answer


CUTS = st.lists(st.integers(0, 10_000), max_size=40)


@given(CUTS, CUTS)
def test_events_are_counted_across_any_cut_of_chunks_and_reads(
    chunk_cuts: list[int], cuts: list[int]
) -> None:
    body = b"".join(EVENTS)
    places = [0, *sorted({cut % len(body) for cut in chunk_cuts} - {0}), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(places)]
    answer = fed(stream(pieces), cuts)
    assert answer.complete
    assert answer.done
    assert not answer.failed
    assert answer.status == 200
    assert answer.events == 7
    assert answer.last_event == b'id: 7\ndata: {"choices":[]}'


@given(st.binary(max_size=200), CUTS)
def test_a_body_with_a_length_is_read_across_any_cut(body: bytes, cuts: list[int]) -> None:
    answer = fed(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, cuts)
    assert answer.complete
    assert answer.body == body


@given(st.binary(min_size=1, max_size=200), CUTS, CUTS)
def test_a_chunked_body_is_read_across_any_cut(
    body: bytes, chunk_cuts: list[int], cuts: list[int]
) -> None:
    places = [0, *sorted({cut % len(body) for cut in chunk_cuts} - {0}), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(places)]
    data = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(pieces)
    assert fed(data, cuts).body == body


def test_the_first_moment_is_that_of_the_first_event_with_text() -> None:
    answer = Answer.expected(events_to_skip=1)
    data = stream(list(EVENTS))
    first_text = data.index(b"w0")
    answer.feed(data[:first_text], 1.0)
    assert answer.first is None
    answer.feed(data[first_text:], 2.0)
    assert answer.first == answer.last == 2.0


def test_an_error_event_fails_the_stream() -> None:
    answer = fed(stream([EVENTS[1], b'data: {"error":{"message":"lost"}}\n\n', EVENTS[-1]]), [])
    assert answer.failed
    assert answer.events == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        HEAD + b"content-length: 2\r\n\r\nabc",
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n",
        stream([*EVENTS, b"data: cut"]),
        b"x" * 70_000,
    ],
)
def test_what_it_does_not_know_is_an_error(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        Answer.expected().feed(data, 0.0)


def test_an_answer_that_has_not_ended_is_not_complete() -> None:
    data = stream(list(EVENTS))
    assert not fed(data[:-1], []).complete
    assert fed(data, []).complete
