from typing import Any

import pytest

from forebay.core.errors import Outcome
from forebay.core.record import GAP_BOUNDS_S, RequestRecord, Timeline
from forebay.core.request import Admitted, Delta, EngineTiming, Finished, Scheduled, Usage
from tests.support.requests import a_request


def a_record(timeline: Timeline, **facts: Any) -> RequestRecord:
    request = a_request(stream=facts.pop("stream", True))
    known: dict[str, Any] = {
        "id": request.id,
        "route": request.route,
        "model": "m",
        "outcome": Outcome.OK,
        "status": 200,
        "timeline": timeline,
        "request": request,
    }
    return RequestRecord(**(known | facts))


def a_stream() -> Timeline:
    """Received at 10, admitted at 11, tokens at 13, 14 and 16, ended at 17."""
    timeline = Timeline(received=10.0)
    timeline.saw(Admitted(), 11.0)
    timeline.saw(Scheduled(5), 11.5)
    for now in (13.0, 14.0, 16.0):
        timeline.saw(Delta("x"), now)
    timeline.saw(Finished(Usage(5, 3), EngineTiming(first_token_s=1.5, decode_s=3.0)), 16.5)
    timeline.ended = 17.0
    return timeline


def test_the_measures_of_a_stream_follow_their_definitions() -> None:
    record = a_record(a_stream(), usage=Usage(5, 3))
    assert record.queue_s == 1.0
    assert record.ttft_s == 3.0
    assert record.tpot_s == pytest.approx(1.5)
    assert record.e2e_s == 7.0
    assert record.overhead_s == pytest.approx(7.0 - 1.0 - 1.5 - 3.0)


def test_a_whole_completions_first_token_is_told_by_the_engine() -> None:
    record = a_record(a_stream(), usage=Usage(5, 3), stream=False)
    assert record.ttft_s == pytest.approx(1.0 + 1.5)
    assert record.tpot_s == pytest.approx(1.5)


def test_a_forecasts_error_is_what_came_later_than_it_said() -> None:
    timeline = a_stream()
    timeline.ttft_forecast_s = 2.5
    assert a_record(timeline, usage=Usage(5, 3)).ttft_error_s == pytest.approx(0.5)
    assert a_record(a_stream(), usage=Usage(5, 3)).ttft_error_s is None
    nothing_made = Timeline(received=0.0, ended=1.0, ttft_forecast_s=1.0)
    assert a_record(nothing_made).ttft_error_s is None


def test_one_token_has_no_time_per_further_token() -> None:
    assert a_record(a_stream(), usage=Usage(5, 1)).tpot_s is None


def test_without_a_token_there_is_no_time_to_it() -> None:
    timeline = Timeline(received=0.0, ended=1.0)
    record = a_record(timeline)
    assert (record.ttft_s, record.tpot_s, record.queue_s, record.overhead_s) == (None,) * 4


def test_gaps_fall_into_their_buckets() -> None:
    timeline = Timeline(received=0.0)
    for now in (0.0, 0.001, 0.0035, 100.0):
        timeline.saw(Delta("x"), now)
    assert sum(timeline.gaps) == 3
    assert timeline.gaps[0] == 1, "a gap of exactly the bound is inside it"
    assert timeline.gaps[-1] == 1, "a longer gap than all bounds"
    assert len(timeline.gaps) == len(GAP_BOUNDS_S) + 1
    assert timeline.gaps_sum_s == pytest.approx(100.0)


def test_a_delta_without_tokens_is_no_token() -> None:
    timeline = Timeline(received=0.0)
    timeline.saw(Delta("", tokens=0), 1.0)
    assert timeline.first_token is None
