"""What drills make of what their clients saw."""

import pytest

from forebay.drill.cancels import fate
from forebay.drill.client import Seen
from forebay.drill.gateway import DUPLICATES, Wish, last_id
from forebay.drill.worker import Readiness

DONE = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
CUT = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
FAILED = 'data: {"error":{}}\n\ndata: [DONE]\n\n'


def a_stream(body: str, *, whole: bool = True) -> Seen:
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return Seen(asked=0.0, status=200, headers=headers, body=body.encode(), whole=whole)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (a_stream(DONE), "answered"),
        (a_stream(CUT, whole=False), "no whole answer"),
        (a_stream(FAILED), "a stream that ended with an error"),
        (Seen(asked=0.0, status=503, whole=True), "status 503"),
        (Seen(asked=0.0), "no whole answer"),
    ],
)
def test_a_fate_is_told_from_what_came(seen: Seen, expected: str) -> None:
    assert fate(seen) == expected


def test_a_stream_that_ends_without_its_last_word_is_no_good_answer() -> None:
    assert a_stream(DONE).ok
    assert not a_stream(CUT).ok
    assert a_stream(DONE).text == "a"


def test_a_client_goes_on_from_the_id_of_the_last_event() -> None:
    assert last_id(b"id: 1-ab\ndata: x\n\nid: 2-ab\ndata: y\n\n") == "2-ab"


def test_of_each_key_one_client_resumes_and_one_is_late() -> None:
    wishes = [Wish(key="k", client=n, stream=True) for n in range(DUPLICATES + 1)]
    assert [wish.resumes for wish in wishes].count(True) == 1
    assert [wish.late for wish in wishes].count(True) == 1
    assert len({wish.body() for wish in wishes}) == 1


def test_absences_are_paired_with_their_ends_and_counted_from_the_fault_on() -> None:
    changes = [(1.0, False), (2.0, True), (5.0, False), (6.5, True), (8.0, False)]
    found = Readiness(changes=changes).absences(since=4.0)
    assert found == [(5.0, 6.5), (8.0, None)]
