import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from forebay.accounts.audit_event import Action, AuditEvent
from forebay.accounts.config import AccountsAway, RowRefused
from forebay.core.clock import ManualClock
from forebay.core.errors import Outcome
from forebay.serve.auditing import AuditConfig, Auditor


class ListBook:
    """Keeps what was written; raises what a test wants it to."""

    def __init__(self) -> None:
        self.written: list[tuple[float, AuditEvent]] = []
        self.batches: list[int] = []
        self.fault: type[Exception] | None = None
        self.stuck = threading.Event()
        self.stuck.set()

    def add(self, events: Sequence[tuple[float, AuditEvent]]) -> None:
        self.stuck.wait()
        if self.fault is not None:
            raise self.fault
        self.written += events
        self.batches.append(len(events))

    @property
    def actors(self) -> list[str]:
        return [event.actor for _, event in self.written]


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, /, **fields: str | float | bool | None) -> None:
        self.events.append((event, fields))


class Stage:
    """An auditor whose thread a test plays itself."""

    def __init__(self, **config: int) -> None:
        self.book, self.log, self.clock = ListBook(), Log(), ManualClock(1_000.0)
        self.auditor = Auditor(self.book, AuditConfig(**config), now=self.clock, log=self.log)

    def note(self, *actors: str, outcome: Outcome = Outcome.OK) -> None:
        for actor in actors:
            self.auditor.note(AuditEvent(action=Action.LOGIN, actor=actor, outcome=outcome))

    def flush(self) -> None:
        self.auditor._flush()


def counted(event: AuditEvent) -> dict[str, object]:
    assert event.action is Action.SKIPPED
    return dict(event.details)


def test_events_are_written_in_order_with_the_moment_they_happened() -> None:
    stage = Stage()
    stage.note("alice")
    stage.clock.advance(5.0)
    stage.note("bob")
    assert stage.auditor.waiting == 2
    stage.flush()
    assert [(at, event.actor) for at, event in stage.book.written] == [
        (1_000.0, "alice"),
        (1_005.0, "bob"),
    ]
    assert stage.auditor.waiting == 0


def test_many_events_are_written_in_batches_and_none_twice() -> None:
    stage = Stage()
    stage.note(*map(str, range(450)))
    stage.flush()
    assert stage.book.actors == [str(number) for number in range(450)]
    assert stage.book.batches == [200, 200, 50]


def test_while_the_database_is_away_events_wait_and_are_written_when_it_is_back() -> None:
    stage = Stage()
    stage.book.fault = AccountsAway
    stage.note("alice", "bob")
    stage.flush()
    stage.flush()
    assert stage.auditor.waiting == 2
    stage.book.fault = None
    stage.note("carol")
    stage.flush()
    assert stage.book.actors == ["alice", "bob", "carol"]
    assert [name for name, _ in stage.log.events] == ["audit.away", "audit.back"]


def test_beyond_the_bound_events_are_counted_and_the_count_is_written() -> None:
    stage = Stage(queue_max=3)
    stage.note(*"abcde")
    stage.flush()
    assert stage.book.actors == ["a", "b", "c"]
    stage.flush()
    assert counted(stage.book.written[-1][1]) == {"lost": 2, "refusals": 0}
    assert ("audit.skipped", {"lost": 2, "refusals": 0}) in stage.log.events
    stage.flush()
    assert len(stage.book.written) == 4


def test_refusals_beyond_the_bound_of_a_minute_are_counted() -> None:
    stage = Stage(refused_max=2)
    stage.note(*"abcd", outcome=Outcome.UNAUTHENTICATED)
    stage.note("alice")
    stage.flush()
    assert stage.book.actors == ["a", "b", "alice", ""]
    assert counted(stage.book.written[-1][1]) == {"lost": 0, "refusals": 2}
    stage.clock.advance(60.0)
    stage.note("e", outcome=Outcome.FORBIDDEN)
    stage.flush()
    assert stage.book.actors[-1] == "e"


def test_a_clock_that_is_set_back_begins_a_new_minute() -> None:
    stage = Stage(refused_max=1)
    stage.note("a", outcome=Outcome.FORBIDDEN)
    stage.clock._now -= 3_600.0
    stage.note("b", outcome=Outcome.FORBIDDEN)
    stage.flush()
    assert stage.book.actors == ["a", "b"]


def test_a_row_that_the_database_refuses_keeps_no_other_out() -> None:
    stage = Stage()
    stage.book.fault = RowRefused
    stage.note("alice")
    stage.flush()
    assert stage.auditor.waiting == 0
    assert ("audit.refused", {"events": 1}) in stage.log.events
    stage.book.fault = None
    stage.note("bob")
    stage.flush()
    assert stage.book.actors == ["bob"]


def test_what_waits_is_written_when_it_stops() -> None:
    stage = Stage()
    stage.auditor.start()
    stage.note("alice")
    stage.auditor.stop(5.0)
    assert stage.book.actors == ["alice"]
    assert stage.log.events == []


def test_the_thread_writes_by_itself() -> None:
    stage = Stage()
    stage.auditor.start()
    stage.note("alice")
    limit = time.monotonic() + 10.0
    while not stage.book.actors and time.monotonic() < limit:
        time.sleep(0.01)
    assert stage.book.actors == ["alice"]
    stage.auditor.stop(5.0)


def test_what_cannot_be_written_when_it_stops_is_told() -> None:
    stage = Stage(queue_max=2)
    stage.book.fault = AccountsAway
    stage.auditor.start()
    stage.note(*"abc")
    stage.auditor.stop(5.0)
    assert stage.log.events[-1] == ("audit.lost", {"events": 3})


def test_a_database_that_hangs_holds_up_neither_who_notes_nor_the_end() -> None:
    stage = Stage(queue_max=5)
    stage.book.stuck.clear()
    stage.auditor.start()
    began = time.monotonic()
    stage.note(*map(str, range(1_000)))
    assert time.monotonic() - began < 1.0
    stage.auditor.stop(0.01)
    assert time.monotonic() - began < 2.0
    stage.book.stuck.set()


@pytest.mark.parametrize("threads", [8])
def test_threads_that_note_at_once_lose_nothing(threads: int) -> None:
    stage = Stage(queue_max=100_000)
    workers = [
        threading.Thread(target=lambda: stage.note(*map(str, range(500)))) for _ in range(threads)
    ]
    stage.auditor.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stage.auditor.stop(10.0)
    assert len(stage.book.written) == threads * 500


def test_a_flood_of_refusals_is_one_row_a_minute_however_long_it_lasts() -> None:
    stage = Stage(refused_max=0)
    for _ in range(3_000):  # ten minutes, as often as the thread comes by
        stage.note("x", "x", outcome=Outcome.UNAUTHENTICATED)
        stage.flush()
        stage.clock.advance(0.2)
    assert len(stage.book.written) == 10
    assert len(stage.log.events) == 10
    stage.auditor.stop(0.0)
    stage.flush()
    counts = [counted(event)["refusals"] for _, event in stage.book.written]
    assert sum(count for count in counts if isinstance(count, int)) == 6_000


def test_what_was_lost_is_written_down_once() -> None:
    stage = Stage(queue_max=1)
    stage.note("alice", "bob")
    for _ in range(4):
        stage.flush()
        stage.clock.advance(60.0)
    assert stage.book.actors == ["alice", ""]
    assert counted(stage.book.written[-1][1]) == {"refusals": 0, "lost": 1}
    stage.note("eve")
    stage.flush()
    assert stage.book.actors == ["alice", "", "eve"]


def test_refusals_of_one_kind_hide_none_of_another() -> None:
    stage = Stage(refused_max=2)
    for _ in range(100):
        stage.auditor.note(AuditEvent(action=Action.DENIED, outcome=Outcome.UNAUTHENTICATED))
    login = AuditEvent(action=Action.LOGIN, actor="eve", outcome=Outcome.UNAUTHENTICATED)
    stage.auditor.note(login)
    stage.flush()
    written = [event.action for _, event in stage.book.written]
    assert written[:3] == [Action.DENIED, Action.DENIED, Action.LOGIN]
