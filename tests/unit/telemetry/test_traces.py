from dataclasses import replace
from typing import Any

from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import Route
from forebay.core.visit import Visit, part
from forebay.telemetry.otlp_config import TracesConfig
from forebay.telemetry.sampling import Kept
from forebay.telemetry.span_attributes import Told
from forebay.telemetry.traces import Finished, SpanMaker, Traces
from tests.support.records import a_completed, a_refused

GIVEN = {b"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


class Keeper:
    """Traces with what they keep."""

    def __init__(self, *, open_mode: bool = True, on: bool = True, **config: Any) -> None:
        self.finished: list[Finished] = []
        put = self.finished.append if on else None
        self.traces = Traces(TracesConfig(**config), open_mode=open_mode, put=put)

    def visit(self, lasted_s: float = 0.5, **given: bytes) -> Visit:
        visit = Visit(id="r", method="POST", path="/v1/chat/completions", received=1.0)
        headers = {name.encode(): value for name, value in given.items()}
        visit.trace = self.traces.contexts.of(headers, Route.CHAT_COMPLETIONS)
        visit.route, visit.ended = Route.CHAT_COMPLETIONS.value, 1.0 + lasted_s
        return visit

    def pass_by(self, record: RequestRecord, visit: Visit | None = None) -> None:
        visit = visit or self.visit()
        self.traces(replace(record, visit=visit))
        self.traces.over(visit)


def test_an_exchange_is_kept_with_its_record_once_it_is_over() -> None:
    kept = Keeper()
    visit = kept.visit()
    kept.traces(replace(a_completed(), visit=visit))
    assert kept.finished == []
    kept.traces.over(visit)
    (finished,) = kept.finished
    assert (finished.visit, finished.kept) == (visit, Kept.SHARE)
    assert [record.id for record in finished.records] == ["req-1"]


def test_a_batch_is_kept_as_one() -> None:
    kept = Keeper()
    visit = kept.visit()
    for n in range(3):
        kept.traces(replace(a_completed(), visit=part(visit, f"r-{n}", 1.0)))
    kept.traces.over(visit)
    (finished,) = kept.finished
    assert len(finished.records) == 3


def test_nothing_is_kept_out_of_the_share_but_faults_and_what_was_slow() -> None:
    kept = Keeper(ratio=0.0, slow_s=5.0)
    kept.pass_by(a_completed())
    kept.pass_by(a_refused(Outcome.RATE_LIMITED))
    assert kept.finished == []
    kept.pass_by(a_refused(Outcome.OVERLOADED))
    kept.pass_by(a_completed(), kept.visit(lasted_s=6.0))
    assert [finished.kept for finished in kept.finished] == [Kept.FAULT, Kept.SLOW]


def test_shares_and_limits_can_be_changed_while_it_runs() -> None:
    kept = Keeper(ratio=0.0)
    kept.pass_by(a_completed())
    kept.traces.reconfigure(TracesConfig(ratio=1.0))
    kept.pass_by(a_completed())
    assert len(kept.finished) == 1
    kept.traces.reconfigure(TracesConfig(ratio=0.0, slow_s=5.0))
    kept.pass_by(a_completed(), kept.visit(lasted_s=4.9))
    kept.pass_by(a_completed(), kept.visit(lasted_s=5.0))
    assert [finished.kept for finished in kept.finished[1:]] == [Kept.SLOW]


def test_of_an_exchange_that_is_over_nothing_is_held() -> None:
    kept = Keeper(ratio=0.0)
    kept.pass_by(a_completed())
    assert kept.traces.held == 0


def test_callers_are_trusted_in_open_mode_unless_the_settings_say_otherwise() -> None:
    def is_kept(*, open_mode: bool, trust: str) -> bool:
        kept = Keeper(open_mode=open_mode, trust_parent=trust, ratio=0.0)
        kept.pass_by(a_completed(), kept.visit(traceparent=GIVEN[b"traceparent"]))
        return bool(kept.finished)

    assert is_kept(open_mode=True, trust="auto")
    assert not is_kept(open_mode=False, trust="auto")
    assert is_kept(open_mode=False, trust="on")
    assert not is_kept(open_mode=True, trust="off")


def test_pages_and_what_nobody_outside_asked_for_leave_nothing_behind() -> None:
    kept = Keeper()
    page = Visit(id="p", method="GET", path="/readyz", received=1.0, ended=1.1)
    kept.traces.over(page)
    kept.traces(replace(a_completed(), visit=None))
    kept.traces.over(kept.visit())
    assert kept.finished == []
    assert kept.traces.held == 0


def test_records_whose_exchange_never_ends_are_bounded() -> None:
    kept = Keeper(queue_max=16)
    for _ in range(50):
        kept.traces(replace(a_completed(), visit=kept.visit()))
    assert kept.traces.held == 16


def test_without_a_collector_no_record_is_held() -> None:
    kept = Keeper(on=False)
    visit = kept.visit(traceparent=GIVEN[b"traceparent"])
    kept.pass_by(a_completed(), visit)
    assert kept.traces.held == 0
    assert kept.finished == []


def test_spans_are_dated_by_the_walls_clock() -> None:
    kept = Keeper()
    kept.pass_by(a_completed())
    clock = [1.0]
    maker = SpanMaker(Told(), now=lambda: clock[0], wall_ns=lambda: 5_000_000_000)
    assert maker(kept.finished)[0].begin_ns == 5_000_000_000
    clock[0] = 1.0 + 3_600.0  # the wall's clock was set back by an hour meanwhile
    assert maker(kept.finished)[0].begin_ns == 5_000_000_000 - 3_600_000_000_000
