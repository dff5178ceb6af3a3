"""What the service says of itself and of what it runs on; what is not known has no series."""

import shutil
import subprocess

import pytest

from forebay.telemetry.http_tally import HttpTally
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.readings import DiskReading, GpuReading, MachineReading, ServerReading
from tests.support.records import a_completed
from tests.unit.telemetry.test_http_tally import a_visit
from tests.unit.telemetry.test_metrics import FakeLane, page, value

WHOLE = MachineReading(
    memory_used_bytes=3 << 30,
    memory_limit_bytes=4 << 30,
    cpu_limit_cores=1.5,
    cpu_throttled_s=2.25,
    disks={"state": DiskReading(free_bytes=7, size_bytes=9)},
    certificate_expires_s=1_800_000_000.0,
    gpus=(
        GpuReading(
            index=0,
            memory_used_bytes=5,
            memory_total_bytes=6,
            busy_ratio=0.5,
            temperature_celsius=40.0,
            power_watts=99.5,
        ),
        GpuReading(index=1, temperature_celsius=41.0),
    ),
)
OWN = (
    *("forebay_memory_", "forebay_cpu_", "forebay_disk_", "forebay_certificate_"),
    "forebay_gpu_",
)


def a_server(reading: ServerReading) -> Metrics:
    metrics = Metrics(["m"])
    metrics.watch_server(lambda: reading)
    return metrics


def test_what_the_server_runs_on_is_told_in_base_units() -> None:
    metrics = a_server(ServerReading(machine=WHOLE))
    assert value(metrics, "forebay_memory_used_bytes") == 3 << 30
    assert value(metrics, "forebay_memory_limit_bytes") == 4 << 30
    assert value(metrics, "forebay_cpu_limit_cores") == 1.5
    assert value(metrics, "forebay_cpu_throttled_seconds_total") == 2.25
    assert value(metrics, "forebay_disk_free_bytes", volume="state") == 7
    assert value(metrics, "forebay_disk_size_bytes", volume="state") == 9
    assert value(metrics, "forebay_certificate_expiry_timestamp_seconds") == 1_800_000_000
    assert value(metrics, "forebay_gpu_memory_used_bytes", gpu="0") == 5
    assert value(metrics, "forebay_gpu_memory_total_bytes", gpu="0") == 6
    assert value(metrics, "forebay_gpu_utilization_ratio", gpu="0") == 0.5
    assert value(metrics, "forebay_gpu_power_watts", gpu="0") == 99.5
    assert value(metrics, "forebay_gpu_temperature_celsius", gpu="1") == 41.0


def test_what_is_not_known_has_no_series() -> None:
    lines = page(a_server(ServerReading())).splitlines()
    assert not [line for line in lines if line.startswith(OWN)]
    lines = page(a_server(ServerReading(machine=WHOLE))).splitlines()
    assert not [line for line in lines if line.startswith('forebay_gpu_power_watts{gpu="1"')]
    assert not [line for line in lines if 'volume="log"' in line]


def test_a_server_says_whether_requests_should_come_to_it_and_how_many_are_there() -> None:
    assert value(a_server(ServerReading()), "forebay_ready") == 0
    metrics = a_server(ServerReading(ready=True, http_in_progress=3))
    assert value(metrics, "forebay_ready") == 1
    assert value(metrics, "forebay_http_requests_in_progress") == 3


def test_objectives_are_told_by_their_names_and_results() -> None:
    metrics = a_server(ServerReading(slo={("ttft", "good"): 9, ("ttft", "bad"): 1}))
    assert value(metrics, "llm_slo_events_total", slo="ttft", result="good") == 9
    assert value(metrics, "llm_slo_events_total", slo="ttft", result="bad") == 1


def test_every_sink_of_telemetry_tells_from_zero_what_it_sent_and_gave_up() -> None:
    metrics = a_server(ServerReading(sent={"log": 5}, dropped={"traces": 2}))
    for sink, sent, dropped in (("log", 5, 0), ("traces", 0, 2), ("metrics", 0, 0)):
        assert value(metrics, "forebay_telemetry_sent_total", sink=sink) == sent
        assert value(metrics, "forebay_telemetry_dropped_total", sink=sink) == dropped


def test_names_beyond_the_bound_are_told_and_their_lanes_are_not() -> None:
    metrics, lane = Metrics(["m"], names_max=2), FakeLane()
    for name in ("m", "m:v2", "m:v3", "m:v4", "m:v3"):
        metrics.know(name)
        metrics.watch(name, lane, lane)
    assert value(metrics, "forebay_metrics_names_folded") == 2
    assert value(metrics, "llm_requests_running", model="m:v2") == 2
    assert 'model="m:v3"' not in page(metrics)
    metrics(a_completed(model="m:v3"))
    assert value(metrics, "llm_answers_total", model="unknown", source="engine") == 1


def test_models_that_are_configured_are_counted_by_their_names_however_many() -> None:
    metrics = Metrics(["a", "b", "c"], names_max=1)
    assert value(metrics, "llm_prompt_tokens_total", model="c") == 0
    metrics.know("d")
    assert value(metrics, "forebay_metrics_names_folded") == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_of_when_every_series_is_there() -> None:
    reading = ServerReading(machine=WHOLE, slo={("ttft", "good"): 1}, sent={"log": 1})
    metrics, lane, http = a_server(reading), FakeLane(), HttpTally()
    metrics.watch("m", lane, lane)
    metrics.join(http.families)
    metrics(a_completed())
    http(a_visit(body_bytes=10, answer_bytes=20))
    found = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page(metrics),
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
