"""Other people's names: each says what the canonical name says, and nothing is counted twice."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import cast

import pytest
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from forebay.core.errors import Outcome
from forebay.core.request import FinishReason, Route
from forebay.core.visit import Visit
from forebay.telemetry import config
from forebay.telemetry.alias_table import ALIAS_TABLE, UNMEASURED
from forebay.telemetry.aliases import Aliases
from forebay.telemetry.catalogue import CATALOGUE
from forebay.telemetry.config import MetricsConfig
from forebay.telemetry.http_catalogue import METHODS
from forebay.telemetry.http_tally import HttpTally
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.readings import ModelReading, ServerReading
from tests.support.records import a_completed, a_refused
from tests.unit.telemetry.test_metrics import FakeLane

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"

SPELLED: Mapping[str, tuple[str, set[str]]] = {
    # The first source document.
    "http_request_duration_seconds": ("histogram", {"handler"}),
    "http_requests_total": ("counter", {"method", "handler", "status"}),
    "http_requests_in_progress": ("gauge", set()),
    # The second.
    "api_requests_total": ("counter", {"endpoint", "status", "model", "version"}),
    "api_response_time_seconds": ("histogram", {"endpoint", "model", "version"}),
    "api_request_size_bytes": ("histogram", {"endpoint"}),
    "api_response_size_bytes": ("histogram", {"endpoint"}),
    "model_load_time_seconds": ("histogram", {"model", "version"}),
    "model_memory_usage_bytes": ("gauge", {"model", "version"}),
    "token_generation_time_seconds": ("histogram", {"model", "version"}),
    "tokens_generated_total": ("counter", {"model", "version"}),
    "model_cache_hits_total": ("counter", {"model", "version"}),
    "model_cache_misses_total": ("counter", {"model", "version"}),
    "successful_inferences_total": ("counter", {"model", "version", "domain"}),
    "failed_inferences_total": ("counter", {"model", "version", "error_type"}),
    # The third.
    "llm_active_requests": ("gauge", set()),
    # The fourth; two of its names are canonical.
    "llm_requests_total": ("counter", {"route", "model", "outcome"}),
    "llm_requests_in_progress": ("gauge", set()),
    "llm_request_duration_seconds": ("histogram", {"model", "objective"}),
    "llm_generation_tokens": ("unknown", set()),
    "llm_generation_latency_seconds": ("histogram", set()),
    "llm_engine_errors_total": ("counter", set()),
    # The fifth.
    "llama_requests_total": ("counter", set()),
    "llama_request_duration_seconds": ("histogram", set()),
    "llama_model_memory_usage_bytes": ("gauge", set()),
    "llama_generation_tokens_per_second": ("gauge", set()),
    # vLLM.
    "vllm:num_requests_running": ("gauge", {"model_name"}),
    "vllm:num_requests_waiting": ("gauge", {"model_name"}),
    "vllm:kv_cache_usage_perc": ("gauge", {"model_name"}),
    "vllm:prompt_tokens_total": ("counter", {"model_name"}),
    "vllm:generation_tokens_total": ("counter", {"model_name"}),
    "vllm:request_success_total": ("counter", {"model_name", "finished_reason"}),
    "vllm:time_to_first_token_seconds": ("histogram", {"model_name"}),
    "vllm:inter_token_latency_seconds": ("histogram", {"model_name"}),
    "vllm:e2e_request_latency_seconds": ("histogram", {"model_name"}),
    "vllm:request_queue_time_seconds": ("histogram", {"model_name"}),
    "vllm:request_prefill_time_seconds": ("histogram", {"model_name"}),
    "vllm:request_decode_time_seconds": ("histogram", {"model_name"}),
    "vllm:request_inference_time_seconds": ("histogram", {"model_name"}),
}
"""Name, kind and labels as the documents write them."""


def a_busy_server(names: str = "source,vllm", series_max: int = 10_000) -> Metrics:
    """Return metrics of a server that has had three answers and two failures."""
    aliases = config.aliases(MetricsConfig(aliases=names, series_max=series_max))
    metrics, lane = Metrics(["m", "m:v2"], aliases=aliases), FakeLane()
    metrics.watch("m", lane, lane)
    metrics.watch("m:v2", lane, lane)
    reading = ServerReading(
        http_in_progress=3,
        models={"m": ModelReading(memory_bytes=7_000, hits=4, misses=1)},
    )
    metrics.watch_server(lambda: reading)
    exchanges = HttpTally()
    metrics.join(exchanges.families)
    exchanges(a_visit())
    exchanges(replace(a_visit(), status=503))
    exchanges(replace(a_visit(), method="GET", route=Route.PROBE))
    metrics.loaded("m", 2.0)
    for record in (
        a_completed(),
        a_completed(tokens=5),
        replace(a_completed(model="m:v2"), route=Route.INFER),
        a_refused(Outcome.ENGINE_ERROR, model="m"),
        a_refused(Outcome.INVALID, model="m"),
    ):
        record.timeline.finish_reasons = (FinishReason.STOP,) if record.usage else ()
        metrics(record)
    return metrics


def a_visit() -> Visit:
    """Return an exchange of 0.5 s that brought 100 bytes and took 2,000."""
    return Visit(
        id="r",
        method="POST",
        path="/infer",
        received=1.0,
        ended=1.5,
        route=Route.INFER,
        status=200,
        body_bytes=100,
        answer_bytes=2_000,
    )


def families(metrics: Metrics) -> dict[str, Family]:
    """Return the families of the text page, by the names that queries use."""
    found = text_string_to_metric_families(metrics.exposition("")[1].decode())
    return {f.name + ("_total" if f.type == "counter" else ""): f for f in found}


def total(family: Family, end: str = "", **labels: str) -> float:
    """Return the sum of the samples that carry these labels."""
    found = [
        sample.value
        for sample in family.samples
        if sample.name.endswith(end) and labels.items() <= sample.labels.items()
    ]
    assert found, f"no sample of {family.name} with {labels}"
    return float(sum(found))


def test_every_name_is_spelled_as_the_documents_spell_it() -> None:
    served = {alias.name for alias in ALIAS_TABLE} | {metric.name for metric in CATALOGUE}
    assert set(SPELLED) <= served
    assert served - {metric.name for metric in CATALOGUE} <= set(SPELLED)


@pytest.mark.parametrize("name", SPELLED)
def test_a_name_has_the_kind_and_the_labels_that_its_document_gives_it(name: str) -> None:
    kind, labels = SPELLED[name]
    family = families(a_busy_server())[name]
    assert family.type == kind
    assert family.samples, "nothing is told of it"
    for sample in family.samples:
        assert set(sample.labels) - {"le"} == labels


@pytest.mark.parametrize(
    ("alias", "labels", "expected"),
    [
        ("http_requests_in_progress", {}, 3),
        ("http_requests_total", {"method": "POST", "handler": "/infer", "status": "2xx"}, 1),
        ("http_requests_total", {"method": "POST", "handler": "/infer", "status": "5xx"}, 1),
        ("http_requests_total", {"method": "GET", "handler": "probe"}, 1),
        ("api_requests_total", {"status": "success", "endpoint": "/infer", "version": "v2"}, 1),
        ("api_requests_total", {"status": "success", "endpoint": "/v1/chat/completions"}, 2),
        ("api_requests_total", {"status": "error", "model": "m"}, 1),
        ("api_requests_total", {"status": "client_error", "model": "m"}, 1),
        ("successful_inferences_total", {"model": "m", "version": "default"}, 2),
        ("successful_inferences_total", {"domain": "unknown"}, 3),
        ("failed_inferences_total", {"error_type": "engine_error"}, 1),
        ("tokens_generated_total", {"model": "m", "version": "default"}, 8),
        ("model_cache_hits_total", {"model": "m"}, 4),
        ("model_cache_misses_total", {"model": "m"}, 1),
        ("model_memory_usage_bytes", {"model": "m"}, 7_000),
        ("llama_model_memory_usage_bytes", {}, 7_000),
        ("llm_generation_tokens", {}, 11),
        ("llm_engine_errors_total", {}, 1),
        ("llama_requests_total", {}, 5),
        ("llm_active_requests", {}, 4),
        ("llm_requests_in_progress", {}, 16),
        ("vllm:num_requests_running", {"model_name": "m"}, 2),
        ("vllm:num_requests_waiting", {"model_name": "m"}, 6),
        ("vllm:kv_cache_usage_perc", {"model_name": "m"}, 0.25),
        ("vllm:generation_tokens_total", {"model_name": "m:v2"}, 3),
        ("vllm:request_success_total", {"model_name": "m", "finished_reason": "stop"}, 2),
        ("vllm:request_success_total", {"model_name": "m", "finished_reason": "length"}, 0),
    ],
)
def test_an_alias_says_what_happened(
    alias: str, labels: Mapping[str, str], expected: float
) -> None:
    assert total(families(a_busy_server())[alias], **labels) == expected


@pytest.mark.parametrize(
    ("alias", "canonical", "labels"),
    [
        ("http_request_duration_seconds", "forebay_http_request_duration_seconds", {}),
        ("api_request_size_bytes", "forebay_http_request_size_bytes", {}),
        ("api_response_size_bytes", "forebay_http_response_size_bytes", {}),
        ("api_response_time_seconds", "llm_request_duration_seconds", {}),
        ("llama_request_duration_seconds", "llm_request_duration_seconds", {}),
        ("vllm:e2e_request_latency_seconds", "llm_request_duration_seconds", {"objective": "good"}),
        ("token_generation_time_seconds", "llm_time_per_output_token_seconds", {}),
        ("llm_generation_latency_seconds", "llm_inference_time_seconds", {}),
        ("model_load_time_seconds", "llm_model_load_time_seconds", {}),
        ("vllm:time_to_first_token_seconds", "llm_time_to_first_token_seconds", {}),
        ("vllm:inter_token_latency_seconds", "llm_inter_token_latency_seconds", {}),
        ("vllm:request_queue_time_seconds", "llm_queue_time_seconds", {}),
        ("vllm:request_prefill_time_seconds", "llm_prefill_time_seconds", {}),
        ("vllm:request_decode_time_seconds", "llm_decode_time_seconds", {}),
        ("vllm:request_inference_time_seconds", "llm_inference_time_seconds", {}),
    ],
)
def test_a_histogram_has_its_canonical_ones_sum_count_and_buckets(
    alias: str, canonical: str, labels: Mapping[str, str]
) -> None:
    page = families(a_busy_server())
    mine, its = page[alias], page[canonical]
    assert total(its, "_count", **labels) > 0
    for end in ("_sum", "_count"):
        assert total(mine, end) == pytest.approx(total(its, end, **labels))
    for bound in {sample.labels["le"] for sample in mine.samples if "le" in sample.labels}:
        assert total(mine, "_bucket", le=bound) == total(its, "_bucket", le=bound, **labels)


def test_the_speed_of_a_generation_is_one_over_its_time_per_token() -> None:
    page = families(a_busy_server())
    tpot = page["llm_time_per_output_token_seconds"]
    expected = total(tpot, "_count") / total(tpot, "_sum")
    assert total(page["llama_generation_tokens_per_second"]) == pytest.approx(expected)


def test_a_speed_that_nobody_measured_is_not_made_up() -> None:
    metrics = Metrics(["m"], aliases=Aliases(table=ALIAS_TABLE, series_max=2_000))
    assert families(metrics)["llama_generation_tokens_per_second"].samples == []


def test_open_metrics_takes_the_page_but_for_the_name_that_it_has_no_place_for() -> None:
    content_type, body = a_busy_server().exposition(OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text")
    parse = cast("Callable[[str], Iterator[Family]]", open_metrics_families)
    found = {family.name: family for family in parse(body.decode())}
    assert "api_requests" in found
    assert found["vllm:num_requests_running"].samples[0].name == "vllm:num_requests_running"
    text = families(a_busy_server())
    assert {*found} == {name.removesuffix("_total") for name in text}
    assert "\nllm_generation_tokens " not in body.decode()


@pytest.mark.parametrize(
    ("names", "source", "vllm"),
    [
        ("source,vllm", True, True),
        ("source", True, False),
        ("vllm", False, True),
        ("", False, False),
    ],
)
def test_a_set_of_names_is_served_only_where_it_is_wanted(
    names: str, *, source: bool, vllm: bool
) -> None:
    page = families(a_busy_server(names))
    assert ("llama_requests_total" in page) is source
    assert ("vllm:num_requests_running" in page) is vllm
    assert "llm_requests_total" in page


def test_a_full_page_keeps_the_small_names_leaves_out_whole_ones_and_says_how_many() -> None:
    bound = 1_050
    page = families(a_busy_server(series_max=bound))
    assert sum(len(family.samples) for family in page.values()) <= bound + 20  # process_* beside
    assert "vllm:num_requests_waiting" in page
    left_out = {alias.name for alias in ALIAS_TABLE} - set(page)
    assert left_out
    assert total(page["forebay_alias_names_left_out"]) == len(left_out)


def test_nothing_is_left_out_by_default_of_a_server_of_two_models() -> None:
    metrics = a_busy_server(series_max=MetricsConfig().series_max)
    assert total(families(metrics)["forebay_alias_names_left_out"]) == 0


def test_callers_of_everything_fill_no_page_beyond_its_bound_and_cost_no_small_name() -> None:
    metrics = Metrics(["m"], aliases=config.aliases(MetricsConfig()))
    exchanges = HttpTally()
    metrics.join(exchanges.families)
    for route in Route:
        for method in METHODS:
            for status in (200, 404, 503):
                exchanges(replace(a_visit(), route=route, method=method, status=status))
        metrics(replace(a_completed(), route=route))
        metrics(replace(a_refused(Outcome.UNKNOWN_MODEL, model="x"), route=route))
    page = families(metrics)
    assert sum(len(family.samples) for family in page.values()) <= MetricsConfig().series_max
    by_endpoint = {alias.name for alias in ALIAS_TABLE if alias.coarse}
    assert {alias.name for alias in ALIAS_TABLE} - set(page) <= by_endpoint


def test_what_is_not_measured_is_nowhere_on_the_page() -> None:
    page = a_busy_server().exposition("")[1].decode()
    for name, why in UNMEASURED.items():
        assert name not in page
        assert why


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("names", ["source", "source,vllm"])
def test_promtool_complains_of_vllms_colons_and_of_nothing_else(names: str) -> None:
    found = subprocess.run(
        ["promtool", "check", "metrics"],
        input=a_busy_server(names).exposition("")[1].decode(),
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    complaints = (found.stdout + found.stderr).splitlines()
    others = [line for line in complaints if "metric names should not contain ':'" not in line]
    assert others == []
    assert bool(complaints) is ("vllm" in names)
