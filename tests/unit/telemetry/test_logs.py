import asyncio
import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebay import __version__
from forebay.core.caller import Caller
from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import Route
from forebay.telemetry import logs
from forebay.telemetry.log_line import ECS_VERSION, FIELD_CHARS_MAX
from forebay.telemetry.logs import LogConfig, RequestLog
from forebay.telemetry.process_use import SAMPLE_S
from tests.support.records import a_completed, a_refused

NOON = 1_800_000_000.25  # 2027-01-15T08:00:00.250Z


class Written:
    """A log into a file, and what is in the file once the log has ended."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.path = folder / "log"
        config = {"format": "json", "destination": str(self.path)} | config
        self.log = RequestLog(LogConfig(**config), wall=lambda: NOON)

    def text(self) -> str:
        self.log.stop()
        return self.path.read_text()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


def hostile(model: str) -> RequestRecord:
    record = a_refused(Outcome.UNKNOWN_MODEL, model=model)
    assert record.route is Route.UNMATCHED
    return record


def test_a_line_tells_of_the_service_that_wrote_it(tmp_path: Path) -> None:
    written = Written(tmp_path, environment="production")
    written.log(a_completed())
    written.log.event("server.ready")
    for line in written.lines():
        assert line["ecs.version"] == ECS_VERSION
        assert line["service.name"] == "forebay"
        assert line["service.version"] == __version__
        assert line["service.environment"] == "production"


def test_an_environment_that_nobody_named_is_absent(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.log(a_completed())
    assert "service.environment" not in written.lines()[0]


def test_after_a_second_lines_say_what_the_processes_use(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.log._use._read -= SAMPLE_S
    written.log._beat()
    written.log(a_completed())
    (line,) = written.lines()
    assert line["cpu_usage_percent"] >= 0.0
    assert 5 < line["memory_mb"] < 100_000


def test_before_that_lines_say_nothing_of_it(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.log(a_completed())
    assert not {"cpu_usage_percent", "memory_mb"} & written.lines()[0].keys()


def test_a_user_goes_by_another_name_also_in_events(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.log.event("guard.flagged", user="ann@example.org", request_id="r-1")
    written.log(replace(a_completed(), caller=Caller(user="ann@example.org", key_id="k1")))
    event, request = written.lines()
    assert event["user.id"] == request["user.id"]
    assert event["http.request.id"] == "r-1"
    assert request["forebay.key_id"] == "k1"
    assert "ann" not in written.path.read_text()


def test_with_one_salt_a_user_is_the_same_after_a_restart(tmp_path: Path) -> None:
    found = set()
    for name in ("a", "b"):
        config = LogConfig(destination=str(tmp_path / name))
        with RequestLog(config, salt=b"s" * 32) as log:
            log(replace(a_completed(), caller=Caller(user="ann")))
        found.add(json.loads((tmp_path / name).read_text())["user.id"])
    assert len(found) == 1


@pytest.mark.parametrize("format_", ["json", "text"])
@pytest.mark.parametrize(
    "model", ["a\nb", "a\r\n{}", "\x1b[2J", "\x9b2J", "a\u2028b", "\ud800", "\x00"]
)
def test_what_a_client_sent_can_neither_start_a_line_nor_steer_a_terminal(
    tmp_path: Path, model: str, format_: str
) -> None:
    written = Written(tmp_path, format=format_)
    written.log(hostile(model))
    text = written.text()
    assert text.endswith("\n")
    assert text[:-1].isprintable()


def test_a_text_longer_than_a_field_is_cut(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.log(hostile("x" * 100_000))
    assert len(written.lines()[0]["gen_ai.request.model"]) == FIELD_CHARS_MAX + 1


def test_an_event_is_a_line_with_its_fields_and_level(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.log.event("worker.restarted", level="warning", reason="exited", after_s=1.5)
    (line,) = written.lines()
    assert line["message"] == "worker.restarted"
    assert (line["log.level"], line["event.dataset"]) == ("warning", "forebay.event")
    assert (line["forebay.reason"], line["forebay.after_s"]) == ("exited", 1.5)


def test_what_a_library_logs_comes_into_the_log_with_its_trace(tmp_path: Path) -> None:
    written = Written(tmp_path)
    library = logging.getLogger("a.library")
    with written.log:
        try:
            int("no number")
        except ValueError:
            library.exception("it broke")
        library.info("chatter")
    library.error("after the end")
    (line,) = written.lines()
    assert (line["log.logger"], line["log.level"]) == ("a.library", "error")
    assert line["forebay.text"] == "it broke"
    assert "ValueError" in line["error.stack_trace"]


def test_text_is_one_line_that_a_person_can_read(tmp_path: Path) -> None:
    written = Written(tmp_path, format="text")
    written.log.event("server.ready", model="m", note="two words")
    assert written.text() == '08:00:00.250 server.ready model=m note="two words"\n'


def test_a_request_is_one_short_line_for_a_person(tmp_path: Path) -> None:
    written = Written(tmp_path, format="text")
    written.log(a_completed())
    written.log(a_refused(Outcome.OVERLOADED))
    assert written.text() == (
        "08:00:00.250 request route=chat_completions model=m status=200 latency_ms=500.0"
        " queue_ms=100.0 ttft_ms=300.0 prompt_tokens=5 tokens=3 source=engine tenant=anonymous"
        " request_id=req-1\n"
        "08:00:00.250 WARNING request route=unmatched status=503 outcome=overloaded"
        ' latency_ms=2.0 request_id=req-2 error="A fixed text."\n'
    )


def test_a_file_is_not_a_terminal_so_auto_writes_json(tmp_path: Path) -> None:
    written = Written(tmp_path, format="auto")
    written.log.event("server.ready")
    assert written.lines()[0]["message"] == "server.ready"


def test_requests_can_be_left_out_while_events_stay(tmp_path: Path) -> None:
    written = Written(tmp_path, requests=False)
    written.log(a_completed())
    written.log.event("server.ready")
    assert [line["message"] for line in written.lines()] == ["server.ready"]


def test_lines_keep_their_order_and_none_is_lost_at_the_end(tmp_path: Path) -> None:
    written = Written(tmp_path)
    for number in range(5_000):
        written.log.event("tick", number=number)
    assert [line["forebay.number"] for line in written.lines()] == list(range(5_000))


def test_a_file_is_appended_to_and_read_by_its_owner_and_group_only(tmp_path: Path) -> None:
    for _ in range(2):
        with RequestLog(LogConfig(destination=str(tmp_path / "log"))) as log:
            log.event("server.ready")
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Path]:
    """A pipe that is full and whose reader does not read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        pass
    yield path
    os.close(reader)  # whoever writes now gets EPIPE and ends
    os.close(writer)


def test_a_reader_that_is_stuck_costs_lines_and_never_time(
    stuck: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.telemetry.logs.STOP_S_MAX", 0.01)
    log = RequestLog(LogConfig(destination=str(stuck), lines_max=100))
    began = time.perf_counter()
    for _ in range(5_000):
        log(a_completed())
    log.stop()
    assert time.perf_counter() - began < 5
    assert log.dropped >= 5_000 - 100 - 1_000  # one batch may be in the writer's hands


def test_a_reader_that_has_gone_costs_lines_that_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = RequestLog(LogConfig(destination=str(path)))
    os.close(reader)
    log(a_completed())
    log.stop()
    assert log.dropped == 1


def test_the_hook_is_cheap(tmp_path: Path) -> None:
    # Ten times the budget of 10 us: a guard against a slip of the pen, not a benchmark.
    written, record = Written(tmp_path), a_completed()
    began = time.perf_counter()
    for _ in range(1_000):
        written.log(record)
    assert (time.perf_counter() - began) / 1_000 < 100e-6
    written.log.stop()


async def test_records_wait_for_each_other_but_come_before_an_event(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.log(a_completed())
    written.log(a_refused())
    assert written.log._sink._lines == deque()
    written.log.event("server.draining")
    assert [line["message"] for line in written.lines()] == [
        "request",
        "request",
        "server.draining",
    ]


async def test_a_record_waits_a_short_time_only(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(logs, "_RECORDS_S", 0.0)
    written = Written(tmp_path)
    for _ in range(2):
        written.log(a_completed())
        await asyncio.wait_for(_emptied(written.log), 5.0)
    assert len(written.lines()) == 2


async def test_so_many_records_at_once_are_written_without_waiting(tmp_path: Path) -> None:
    written = Written(tmp_path)
    for _ in range(logs._RECORDS_MAX - 1):
        written.log(a_completed())
    assert len(written.log._records) == logs._RECORDS_MAX - 1
    written.log(a_completed())
    assert not written.log._records
    assert len(written.lines()) == logs._RECORDS_MAX


def test_a_record_waits_a_short_time_only_also_after_another_loop_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(tmp_path)

    async def note() -> None:
        written.log(a_completed())

    async def note_and_wait() -> None:
        written.log(a_completed())
        await asyncio.wait_for(_emptied(written.log), 5.0)

    asyncio.run(note())
    assert len(written.log._records) == 1, "the case is real: its timer never came"
    monkeypatch.setattr(logs, "_RECORDS_S", 0.0)
    asyncio.run(note_and_wait())
    assert len(written.lines()) == 2


async def _emptied(log: RequestLog) -> None:
    while log._records:
        await asyncio.sleep(0)
