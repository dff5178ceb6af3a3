import dataclasses
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from forebay.core.errors import OUTCOMES, Objective, Outcome
from forebay.core.record import GAP_BOUNDS_S, Timeline
from forebay.core.request import Route, Source
from forebay.engine.worker_process import Loss
from forebay.telemetry.catalogue import CATALOGUE, RESTART_REASONS
from forebay.telemetry.http_tally import HttpTally
from forebay.telemetry.metric import Kind
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.readings import ServerReading
from tests.support.records import a_completed, a_refused


@dataclass
class Stats:
    running: int = 3
    waiting: int = 1
    blocks_used_ratio: float = 0.25


@dataclass
class FakeLane:
    """A door and a worker in one."""

    running: int = 2
    waiting: int = 6
    places_taken: int = 4
    places_max: int = 8
    stats: Stats | None = field(default_factory=Stats)
    restarts: Mapping[str, int] = field(default_factory=dict)
    reruns: int = 2
    poisoned: int = 1
    promises: Mapping[str, int] = field(default_factory=lambda: {"made": 5, "redeemed": 4})

    @property
    def load(self) -> "FakeLane":
        return self

    def gauges(self) -> Stats | None:
        return self.stats


def page(metrics: Metrics) -> str:
    return metrics.exposition("")[1].decode()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(page(metrics)):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    raise AssertionError(f"no {name} with {labels}")


def test_a_request_is_counted_under_its_route_model_and_outcome() -> None:
    metrics = Metrics(["m"])
    metrics(a_completed())
    metrics(a_completed())
    labels = {"route": "chat_completions", "model": "m"}
    assert value(metrics, "llm_requests_total", **labels, outcome="ok") == 2
    assert value(metrics, "llm_requests_total", **labels, outcome="cancelled") == 0


def test_a_record_that_cannot_be_counted_costs_no_other_its_count() -> None:
    metrics, poison = Metrics(["m"]), replace(a_completed(), timeline=cast("Timeline", None))
    metrics(a_completed())
    metrics(poison)
    metrics(a_completed())
    with pytest.raises(AttributeError):
        page(metrics)
    for _ in range(2):
        assert value(metrics, "llm_answers_total", model="m", source="engine") == 2
        assert value(metrics, "llm_generation_tokens_total", model="m") == 6
    metrics(a_completed())
    assert value(metrics, "llm_answers_total", model="m", source="engine") == 3


@pytest.mark.parametrize("route", [Route.CHAT_COMPLETIONS, Route.COMPLETIONS])
def test_every_outcome_of_the_main_routes_starts_at_zero(route: Route) -> None:
    metrics = Metrics(["m"])
    for outcome in Outcome:
        labels = {"route": route, "model": "m", "outcome": outcome}
        assert value(metrics, "llm_requests_total", **labels) == 0


@pytest.mark.parametrize("route", list(Route))
def test_what_an_objective_counts_is_there_from_the_first_request_of_any_route(
    route: Route,
) -> None:
    metrics = Metrics(["m"])
    metrics(dataclasses.replace(a_completed(), route=route))
    for outcome, ending in OUTCOMES.items():
        labels = {"route": route, "model": "m", "outcome": outcome}
        if ending.objective is not Objective.IGNORED:
            assert value(metrics, "llm_requests_total", **labels) == (outcome is Outcome.OK)


def test_a_callers_own_fault_on_a_seldom_route_is_there_once_it_happened() -> None:
    metrics = Metrics(["m"])
    labels = {"route": "infer", "model": "m"}
    for count in (1, 2):
        metrics(dataclasses.replace(a_refused(Outcome.INVALID, model="m"), route=Route.INFER))
        assert value(metrics, "llm_requests_total", **labels, outcome="invalid") == count
    assert value(metrics, "llm_requests_total", **labels, outcome="overloaded") == 0
    assert 'outcome="conflict",route="infer"' not in page(metrics)


def test_the_outcomes_add_up_to_the_requests_received() -> None:
    metrics = Metrics(["m"])
    for outcome in Outcome:
        metrics(a_refused(outcome))
    families = text_string_to_metric_families(page(metrics))
    samples = [s for f in families for s in f.samples if s.name == "llm_requests_total"]
    assert sum(sample.value for sample in samples) == len(Outcome)


def test_a_model_outside_the_configuration_becomes_unknown() -> None:
    metrics = Metrics(["m"])
    metrics(a_refused(Outcome.UNKNOWN_MODEL, model="x" * 300))
    text = page(metrics)
    assert "xxx" not in text
    labels = {"route": "unmatched", "model": "unknown", "outcome": "unknown_model"}
    assert value(metrics, "llm_requests_total", **labels) == 1


@pytest.mark.parametrize(
    ("name", "expected_s"),
    [
        ("llm_time_to_first_token_seconds", 0.3),
        ("llm_time_per_output_token_seconds", 0.02),
        ("llm_queue_time_seconds", 0.1),
        ("llm_prefill_time_seconds", 0.19),
        ("llm_decode_time_seconds", 0.04),
        ("llm_gateway_overhead_seconds", 0.17),
        ("llm_inter_token_latency_seconds", 0.04),
    ],
)
def test_a_measure_is_observed_once_per_request(name: str, expected_s: float) -> None:
    metrics = Metrics(["m"])
    metrics(a_completed())
    assert value(metrics, f"{name}_sum", model="m") == pytest.approx(expected_s)
    gaps = 2 if name == "llm_inter_token_latency_seconds" else 1
    assert value(metrics, f"{name}_count", model="m") == gaps


def test_a_bound_belongs_to_its_own_bucket() -> None:
    metrics = Metrics(["m"])
    record = a_completed(tokens=1)
    record.timeline.gaps = [0] * (len(GAP_BOUNDS_S) + 1)
    record.timeline.gaps[0] = 7
    record.timeline.gaps[-1] = 2
    metrics(record)
    bucket = "llm_inter_token_latency_seconds_bucket"
    assert value(metrics, bucket, model="m", le="0.001") == 7
    assert value(metrics, bucket, model="m", le="5.0") == 7
    assert value(metrics, bucket, model="m", le="+Inf") == 9


def test_gaps_of_a_completion_sent_whole_are_not_inter_token_latency() -> None:
    metrics = Metrics(["m"])
    metrics(a_completed(stream=False))
    assert value(metrics, "llm_inter_token_latency_seconds_count", model="m") == 0


def test_a_single_token_has_no_time_per_output_token() -> None:
    metrics = Metrics(["m"])
    metrics(a_completed(tokens=1))
    assert value(metrics, "llm_time_per_output_token_seconds_count", model="m") == 0


def test_a_request_turned_away_is_in_the_duration_and_in_no_other_histogram() -> None:
    metrics = Metrics(["m"])
    metrics(a_refused(Outcome.OVERLOADED, model="m"))
    duration = "llm_request_duration_seconds_count"
    assert value(metrics, duration, model="m", objective="bad") == 1
    assert value(metrics, duration, model="m", objective="good") == 0
    assert value(metrics, "llm_queue_time_seconds_count", model="m") == 0


def test_tokens_are_counted_exactly() -> None:
    metrics = Metrics(["m"])
    metrics(a_completed(tokens=3))
    metrics(a_completed(tokens=4))
    assert value(metrics, "llm_prompt_tokens_total", model="m") == 10
    assert value(metrics, "llm_generation_tokens_total", model="m") == 7


def test_gauges_are_read_when_asked() -> None:
    metrics, lane = Metrics(["m"]), FakeLane()
    metrics.watch("m", lane, lane)
    lane.running = 5
    assert value(metrics, "llm_requests_running", model="m") == 5
    assert value(metrics, "llm_requests_waiting", model="m") == 6
    assert value(metrics, "llm_saturation_ratio", model="m") == 10 / 8
    assert value(metrics, "llm_kv_blocks_used_ratio", model="m") == 0.25
    assert value(metrics, "llm_engine_sequences_running", model="m") == 3
    assert value(metrics, "llm_engine_sequences_waiting", model="m") == 1


def test_an_engine_that_has_sent_no_gauges_reads_zero() -> None:
    metrics, lane = Metrics(["m"]), FakeLane(stats=None)
    metrics.watch("m", lane, lane)
    assert value(metrics, "llm_engine_sequences_running", model="m") == 0


def test_restarts_are_told_by_reason_and_a_new_reason_becomes_unknown() -> None:
    metrics, lane = Metrics(["m"]), FakeLane(restarts={"exited": 2, "moonlight": 1})
    metrics.watch("m", lane, lane)
    assert value(metrics, "llm_worker_restarts_total", model="m", reason="exited") == 2
    assert value(metrics, "llm_worker_restarts_total", model="m", reason="stalled") == 0
    assert value(metrics, "llm_worker_restarts_total", model="m", reason="unknown") == 1


def test_every_reason_that_a_supervisor_has_is_catalogued() -> None:
    assert {*Loss} < {*RESTART_REASONS}


def test_the_process_says_its_lag_and_the_lines_it_dropped() -> None:
    metrics = Metrics(["m"])
    metrics.watch_server(lambda: ServerReading(loop_lag_s=0.5, log_lines_dropped=3))
    assert value(metrics, "llm_event_loop_lag_seconds") == 0.5
    assert value(metrics, "llm_log_lines_dropped_total") == 3


def test_an_answer_is_counted_under_where_it_came_from() -> None:
    metrics = Metrics(["m"])
    metrics(a_completed())
    metrics(a_completed(source=Source.CACHED))
    for source, count in (("engine", 1), ("cached", 1), ("joined", 0), ("replayed", 0)):
        assert value(metrics, "llm_answers_total", model="m", source=source) == count


@pytest.mark.parametrize("source", [Source.JOINED, Source.REPLAYED, Source.CACHED])
def test_what_was_made_for_another_is_not_counted_as_made(source: Source) -> None:
    metrics = Metrics(["m"])
    metrics(a_completed(source=source))
    assert value(metrics, "llm_generation_tokens_total", model="m") == 0
    assert value(metrics, "llm_prompt_tokens_total", model="m") == 0
    assert value(metrics, "llm_time_to_first_token_seconds_count", model="m") == 0
    labels = {"route": "chat_completions", "model": "m", "outcome": "ok"}
    assert value(metrics, "llm_requests_total", **labels) == 1


def test_a_forecast_that_was_too_hopeful_has_an_error_above_zero() -> None:
    metrics = Metrics(["m"])
    record = a_completed()
    record.timeline.ttft_forecast_s = 0.12  # it was 0.3
    metrics(record)
    bucket = "llm_ttft_forecast_error_seconds_bucket"
    assert value(metrics, bucket, model="m", le="0.1") == 0
    assert value(metrics, bucket, model="m", le="0.2") == 1
    assert "llm_ttft_forecast_error_seconds_sum" not in page(metrics)


def test_an_abort_is_counted_by_how_far_the_answer_was() -> None:
    metrics = Metrics(["m"])
    metrics.freed("m", 0.01, "decode", 7)
    metrics.freed("m", 0.02, "prefill", 100)
    metrics.freed("m", 0.03, "sleep", 1)
    assert value(metrics, "llm_wasted_tokens_total", model="m", phase="decode") == 7
    assert value(metrics, "llm_wasted_tokens_total", model="m", phase="prefill") == 100
    assert value(metrics, "llm_wasted_tokens_total", model="m", phase="unknown") == 1
    assert value(metrics, "llm_cancel_propagation_seconds_count", model="m") == 3


def test_a_lane_tells_its_retries_poisoned_requests_and_promises() -> None:
    metrics, lane = Metrics(["m"]), FakeLane()
    metrics.watch("m", lane, lane)
    assert value(metrics, "llm_retries_total", model="m", reason="worker_lost") == 2
    assert value(metrics, "llm_poisoned_requests_total", model="m") == 1
    assert value(metrics, "llm_promises_total", model="m", result="redeemed") == 4
    assert value(metrics, "llm_promises_total", model="m", result="missed") == 0


def test_the_process_says_what_is_held_and_whether_the_ledger_balances() -> None:
    metrics = Metrics(["m"])
    reading = ServerReading(
        imbalance=-1,
        held={"place": 3, "umbrella": 2},
        flights=9,
        cache={"hit": 4},
        store_degraded=True,
    )
    metrics.watch_server(lambda: reading)
    assert value(metrics, "llm_ledger_imbalance") == -1
    assert value(metrics, "llm_ledger_held", kind="place") == 3
    assert value(metrics, "llm_ledger_held", kind="lease") == 0
    assert value(metrics, "llm_ledger_held", kind="unknown") == 2
    assert value(metrics, "llm_flights_total") == 9
    assert value(metrics, "llm_cache_requests_total", result="hit") == 4
    assert value(metrics, "llm_cache_requests_total", result="bypass") == 0
    assert value(metrics, "llm_store_degraded") == 1


def test_two_servers_in_one_process_count_apart() -> None:
    first, second = Metrics(["m"]), Metrics(["m"])
    first(a_completed())
    labels = {"route": "chat_completions", "model": "m", "outcome": "ok"}
    assert value(first, "llm_requests_total", **labels) == 1
    assert value(second, "llm_requests_total", **labels) == 0


def test_the_page_holds_the_catalogue_and_nothing_else_but_the_process() -> None:
    metrics, lane = Metrics(["m"]), FakeLane()
    metrics.watch("m", lane, lane)
    metrics.join(HttpTally().families)
    found = {
        (family.name, family.type, family.documentation)
        for family in text_string_to_metric_families(page(metrics))
        if not family.name.startswith("process_")
    }
    expected = {
        (
            metric.name.removesuffix("_total"),
            metric.kind.value,
            f"{metric.help} {metric.action}",
        )
        for metric in CATALOGUE
    }
    assert found == expected


def test_labels_on_the_page_are_the_catalogued_ones() -> None:
    metrics, lane = Metrics(["m"]), FakeLane()
    metrics.watch("m", lane, lane)
    catalogued = {metric.name.removesuffix("_total"): metric for metric in CATALOGUE}
    for family in text_string_to_metric_families(page(metrics)):
        metric = catalogued.get(family.name)
        for sample in family.samples if metric else ():
            assert metric is not None
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_open_metrics_is_written_when_asked_for() -> None:
    content_type, body = Metrics(["m"]).exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    parse = cast("Callable[[str], Iterator[object]]", open_metrics_families)
    assert list(parse(body.decode()))


def test_five_models_stay_under_two_thousand_series() -> None:
    metrics, lane = Metrics(["a", "b", "c", "d", "e"]), FakeLane()
    for model in "abcde":
        metrics.watch(model, lane, lane)
    series = [line for line in page(metrics).splitlines() if not line.startswith("#")]
    assert len(series) < 2_000


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_of() -> None:
    metrics, lane = Metrics(["m"]), FakeLane()
    metrics.watch("m", lane, lane)
    metrics(a_completed())
    found = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page(metrics),
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_hook_and_the_page_are_cheap() -> None:
    # Ten times the budgets (15 us, 50 ms): a guard against a slip of the pen, not a benchmark.
    metrics, record = Metrics(["m"]), a_completed()
    began = time.perf_counter()
    for _ in range(1_000):
        metrics(record)
    assert (time.perf_counter() - began) / 1_000 < 150e-6
    began = time.perf_counter()
    metrics.exposition("")
    assert time.perf_counter() - began < 0.5


def test_every_histogram_has_rising_bounds_and_a_source() -> None:
    for metric in CATALOGUE:
        assert (metric.buckets is not None) == (metric.kind is Kind.HISTOGRAM)
        if metric.buckets is not None:
            assert list(metric.buckets.bounds) == sorted(set(metric.buckets.bounds))
            assert metric.buckets.source
