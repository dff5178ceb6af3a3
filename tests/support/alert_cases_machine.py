"""Cases of the alerts of the machine and of what is written down; see `alert_case.py`."""

from typing import Final

from tests.support.alert_case import Case, Scraped, Series

_HERE: Final = {"instance": "a:8000"}
_SERVER: Final = Scraped(_HERE)
_STATE: Final = {**_HERE, "volume": "state"}
_GPU: Final = {**_HERE, "gpu": "0"}


def _memory(used: float) -> Series:
    return {
        **_SERVER.flat("forebay_memory_used_bytes", used),
        **_SERVER.flat("forebay_memory_limit_bytes", 1000),
    }


def _disk(free: str) -> Series:
    return {
        **_SERVER.goes("forebay_disk_free_bytes", free, volume="state"),
        **_SERVER.goes("forebay_disk_size_bytes", "1000+0x240", volume="state"),
    }


def _gpu_memory(used: float) -> Series:
    return {
        **_SERVER.flat("forebay_gpu_memory_used_bytes", used, gpu="0"),
        **_SERVER.flat("forebay_gpu_memory_total_bytes", 1000, gpu="0"),
    }


def _certificate(days: float) -> Series:
    # Time begins at 0 here, and the case looks 20 minutes later.
    name = "forebay_certificate_expiry_timestamp_seconds"
    return _SERVER.flat(name, days * 86_400 + 1_200)


_MACHINE: Final = (
    Case(
        alert="MemoryNearLimit",
        about="91 % in use",
        series=_memory(910),
        labels=_HERE,
        shown="91%",
    ),
    Case(alert="MemoryNearLimit", about="89.9 % in use", series=_memory(899)),
    Case(
        alert="DiskFull", about="4.9 % free", series=_disk("49+0x40"), labels=_STATE, shown="4.9%"
    ),
    Case(alert="DiskFull", about="5.1 % free", series=_disk("51+0x40")),
    Case(
        alert="DiskFilling", about="14 % free", series=_disk("140+0x40"), labels=_STATE, shown="14%"
    ),
    Case(
        alert="DiskFilling",
        about="34 % free, and none in 19 hours",
        series=_disk("400-0.3x240"),
        at="200m",
        looked="5m",
        labels=_STATE,
        shown="34%",
    ),
    Case(
        alert="DiskFilling",
        about="35 % free, and none in 24 and a half hours",
        series=_disk("400-0.24x240"),
        at="200m",
        looked="5m",
    ),
    Case(
        alert="DiskFilling",
        about="a model is pulled, for an hour now",
        series=_disk("400-3x60"),
        at="60m",
        looked="5m",
    ),
    Case(alert="DiskFilling", about="15.1 % free", series=_disk("151+0x40")),
    Case(
        alert="CertificateExpiring",
        about="13.9 days left",
        series=_certificate(13.9),
        labels=_HERE,
        shown="13d 21h 36m 0s",
    ),
    Case(alert="CertificateExpiring", about="14.1 days left", series=_certificate(14.1)),
    Case(
        alert="CertificateExpired",
        about="23 hours left",
        series=_certificate(23 / 24),
        labels=_HERE,
        shown="23h 0m 0s",
    ),
    Case(alert="CertificateExpired", about="25 hours left", series=_certificate(25 / 24)),
    Case(
        alert="EventLoopLagging",
        about="60 ms at every scrape",
        series=_SERVER.flat("llm_event_loop_lag_seconds", 0.06),
        labels=_HERE,
        shown="60ms",
    ),
    Case(
        alert="EventLoopLagging",
        about="a second at every third scrape",
        series=_SERVER.goes("llm_event_loop_lag_seconds", "0 0 1 " * 12),
    ),
    Case(
        alert="EventLoopLagging",
        about="50 ms at every scrape",
        series=_SERVER.flat("llm_event_loop_lag_seconds", 0.05),
    ),
)

_GPUS: Final = (
    Case(
        alert="GpuMemoryFull",
        about="96 % in use",
        series=_gpu_memory(960),
        labels=_GPU,
        shown="96%",
    ),
    Case(alert="GpuMemoryFull", about="94.9 % in use", series=_gpu_memory(949)),
    Case(
        alert="GpuMemoryHigh",
        about="91 % in use",
        series=_gpu_memory(910),
        labels=_GPU,
        shown="91%",
    ),
    Case(alert="GpuMemoryHigh", about="89.9 % in use", series=_gpu_memory(899)),
    Case(
        alert="GpuBusy",
        about="91 % for 20 minutes",
        series=_SERVER.flat("forebay_gpu_utilization_ratio", 0.91, gpu="0"),
        labels=_GPU,
        shown="91%",
    ),
    Case(
        alert="GpuBusy",
        about="89 % for 20 minutes",
        series=_SERVER.flat("forebay_gpu_utilization_ratio", 0.89, gpu="0"),
    ),
)

_RECORDS: Final = (
    Case(
        alert="AccountsDegraded",
        about="away for over a minute",
        series=_SERVER.goes("llm_books_degraded", "0+0x10 1+0x10"),
        at="13m",
        labels=_HERE,
    ),
    Case(
        alert="AccountsDegraded",
        about="away at one scrape",
        series=_SERVER.goes("llm_books_degraded", "0+0x10 1 0+0x10"),
        at="12m",
    ),
    Case(
        alert="UsageLost",
        about="a row was lost",
        series=_SERVER.goes("llm_usage_rows_lost_total", "0+0x10 1+0x30"),
        at="15m",
        labels=_HERE,
        shown="1",
    ),
    Case(
        alert="UsageLost",
        about="rows were lost long ago",
        series=_SERVER.flat("llm_usage_rows_lost_total", 7),
    ),
    Case(
        alert="StoreDegraded",
        about="keys are known to this process only",
        series={
            **_SERVER.flat("llm_store_degraded", 1),
            **_SERVER.flat("llm_limits_degraded", 0),
        },
        labels=_HERE,
    ),
    Case(
        alert="StoreDegraded",
        about="limits hold for this process only, too",
        series={
            **_SERVER.flat("llm_store_degraded", 1),
            **_SERVER.flat("llm_limits_degraded", 1),
        },
        labels=_HERE,
    ),
    Case(
        alert="StoreDegraded",
        about="away for less than two minutes",
        series=_SERVER.goes("llm_store_degraded", "0+0x10 1 0+0x10"),
        at="12m",
    ),
    Case(
        alert="TelemetryDropped",
        about="log lines are dropped",
        series=_SERVER.goes("forebay_telemetry_dropped_total", "0+0x10 14+0x30", sink="log"),
        at="15m",
        labels={**_HERE, "sink": "log"},
        shown="14",
    ),
    Case(
        alert="TelemetryDropped",
        about="spans were dropped long ago, and many are sent",
        series={
            **_SERVER.flat("forebay_telemetry_dropped_total", 14, sink="traces"),
            **_SERVER.grows("forebay_telemetry_sent_total", 14, sink="traces"),
        },
    ),
    Case(alert="DeadMansSwitch", about="nothing is known at all", series={}, labels={}),
)

MACHINE_CASES: Final = (*_MACHINE, *_GPUS, *_RECORDS)
