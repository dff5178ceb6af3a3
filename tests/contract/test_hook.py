"""The promises of Hook, over every implementation: it takes any record, and never raises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.core.errors import Outcome
from forebay.core.record import Hook, RequestRecord
from forebay.telemetry.logs import LogConfig, RequestLog
from forebay.telemetry.metrics import Metrics
from tests.support.records import a_completed, a_refused

RECORDS = [
    a_completed(),
    a_completed(stream=False),
    a_completed(tokens=0),
    a_completed(tokens=1),
    a_completed(model="\ud800\n"),
    a_refused(model="x" * 1_000_000),
    *(a_refused(outcome) for outcome in Outcome),
]


@pytest.fixture(params=["metrics", "json log", "text log"])
def hook(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hook]:
    if request.param == "metrics":
        yield Metrics(["m"])
        return
    config = LogConfig(destination=str(tmp_path / "log"), format=request.param.split()[0])
    with RequestLog(config) as log:
        yield log


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.outcome)
def test_a_hook_takes_every_kind_of_record(hook: Hook, record: RequestRecord) -> None:
    hook(record)


def test_a_hook_leaves_the_record_as_it_was(hook: Hook) -> None:
    record = a_completed()
    hook(record)
    assert record == a_completed()
