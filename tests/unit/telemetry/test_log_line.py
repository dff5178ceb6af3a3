from dataclasses import replace
from typing import Any

import msgspec
import pytest

from forebay.core.caller import Caller
from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord
from forebay.telemetry.log_line import PATH_CHARS_MAX, request_line
from tests.support.records import a_completed, a_refused, a_visit

STAMP = "2027-01-15T08:00:00.250Z"


def line_of(record: RequestRecord) -> dict[str, Any]:
    made = request_line(record, STAMP, str.upper)
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    return found


def test_a_request_makes_one_line_with_its_facts_by_their_names_in_ecs() -> None:
    record = replace(
        a_completed(), visit=a_visit(), caller=Caller(user="ann", key_id="k1", tenant="acme")
    )
    assert line_of(record) == {
        "@timestamp": STAMP,
        "log.level": "info",
        "message": "request",
        "event.action": "chat_completions",
        "event.outcome": "success",
        "event.duration": 500_000_000,
        "trace.id": "0af7651916cd43dd8448eb211c80319c",
        "span.id": "00f067aa0ba902b7",
        "http.request.id": "req-1",
        "http.request.method": "POST",
        "http.request.body.bytes": 321,
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "client.ip": "192.0.2.7",
        "user.id": "ANN",
        "organization.id": "anonymous",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "latency_ms": 500.0,
        "tokens_generated": 3,
        "throughput_tokens_per_sec": 6.0,
        "forebay.key_id": "k1",
        "forebay.stream": True,
        "forebay.source": "engine",
        "forebay.queue_ms": 100.0,
        "forebay.ttft_ms": 300.0,
        "forebay.tpot_ms": 20.0,
        "forebay.overhead_ms": 170.0,
    }


def test_a_measure_that_was_not_taken_is_absent() -> None:
    line = line_of(a_refused())
    assert line["error.message"] == "A fixed text."
    absent = {"forebay.ttft_ms", "forebay.queue_ms", "tokens_generated", "forebay.stream"}
    assert not (absent | {"trace.id", "url.path", "gen_ai.request.model"}) & line.keys()


def test_no_prompt_is_in_a_line() -> None:
    assert "hello there" not in str(line_of(a_completed()))


@pytest.mark.parametrize(
    ("outcome", "level", "told"),
    [
        (Outcome.OK, "info", ("success", None)),
        (Outcome.INVALID, "info", ("failure", "invalid")),
        (Outcome.RATE_LIMITED, "info", ("failure", "rate_limited")),
        (Outcome.CANCELLED, "info", ("unknown", "cancelled")),
        (Outcome.OVERLOADED, "warning", ("failure", "overloaded")),
        (Outcome.DRAINING, "warning", ("failure", "draining")),
        (Outcome.TIMED_OUT, "error", ("failure", "timed_out")),
        (Outcome.INTERNAL_ERROR, "error", ("failure", "internal_error")),
    ],
)
def test_the_level_says_whose_fault_it_was_and_the_type_which(
    outcome: Outcome, level: str, told: tuple[str, str | None]
) -> None:
    line = line_of(a_refused(outcome))
    assert line["log.level"] == level
    assert (line["event.outcome"], line.get("error.type")) == told


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_line(outcome: Outcome) -> None:
    assert line_of(a_refused(outcome))["event.outcome"] in {"success", "failure", "unknown"}


def test_a_path_that_nobody_serves_is_bounded_and_escaped() -> None:
    hostile = "/a\n{\x1b[2J" + "x" * 60_000
    line = line_of(replace(a_refused(), visit=a_visit(hostile)))
    assert line["url.path"].startswith("/a\\n{\\x1b[2J")
    assert len(line["url.path"]) < PATH_CHARS_MAX + 10


def test_milliseconds_are_rounded_to_microseconds() -> None:
    record = a_refused()
    record.timeline.ended = record.timeline.received + 0.001_234_567_8
    line = line_of(record)
    assert line["latency_ms"] == 1.235
    assert abs(line["event.duration"] - 1_234_567) <= 1


def test_a_client_that_takes_no_part_in_a_trace_has_none() -> None:
    visit = a_visit()
    visit.trace = None
    line = line_of(replace(a_completed(), visit=visit))
    assert not {"trace.id", "span.id"} & line.keys()
    assert line["client.ip"] == "192.0.2.7"
