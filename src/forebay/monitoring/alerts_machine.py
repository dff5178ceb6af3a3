"""Alerts of what the service runs on: processor, memory, disks, certificate, and its GPUs."""

from typing import Final

from forebay.monitoring.alert import Alert, Area, Severity

_MINUTE_S: Final = 60.0

_MEMORY: Final = "forebay_memory_used_bytes / forebay_memory_limit_bytes"
_FREE: Final = "forebay_disk_free_bytes / forebay_disk_size_bytes"
_GPU_MEMORY: Final = "forebay_gpu_memory_used_bytes / forebay_gpu_memory_total_bytes"
_LEFT: Final = "forebay_certificate_expiry_timestamp_seconds - time()"

MACHINE: Final = (
    Alert(
        name="MemoryNearLimit",
        expr=f"{_MEMORY} > 0.9",
        hold_s=2 * _MINUTE_S,
        keep_s=2 * _MINUTE_S,
        severity=Severity.PAGE,
        area=Area.MACHINE,
        summary="{{ $labels.instance }} uses over 90 % of the memory it may.",
        description="{{ $value | humanizePercentage }} are in use. At the limit the kernel ends"
        " the largest process, which is a worker or the server itself.",
        panel="resources/Memory",
    ),
    Alert(
        name="DiskFull",
        expr=f"{_FREE} < 0.05",
        hold_s=_MINUTE_S,
        severity=Severity.PAGE,
        area=Area.MACHINE,
        summary="The {{ $labels.volume }} volume of {{ $labels.instance }} is full.",
        description="{{ $value | humanizePercentage }} are free. Without room accounts, logs or"
        " downloaded models cannot be written.",
        panel="resources/Disk",
    ),
    Alert(
        name="DiskFilling",
        # Not by what was seen for less than three hours: a model that is pulled ends sometime.
        expr=f"{_FREE} < 0.15 or ({_FREE} < 0.5"
        " and predict_linear(forebay_disk_free_bytes[$6h], ${1d}) < 0"
        " and forebay_disk_free_bytes offset $3h)",
        hold_s=10 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MACHINE,
        summary="The {{ $labels.volume }} volume of {{ $labels.instance }} fills up.",
        description="{{ $value | humanizePercentage }} are free, or at the rate of the last six"
        " hours nothing will be within a day.",
        panel="resources/Disk",
    ),
    Alert(
        name="CertificateExpired",
        expr=f"{_LEFT} < 86400",
        hold_s=_MINUTE_S,
        severity=Severity.PAGE,
        area=Area.MACHINE,
        summary="The certificate of {{ $labels.instance }} ends within a day, or has ended.",
        description="{{ $value | humanizeDuration }} are left. After that no client connects.",
        panel="resources/Certificate",
    ),
    Alert(
        name="CertificateExpiring",
        expr=f"{_LEFT} < 14 * 86400",
        hold_s=10 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MACHINE,
        summary="The certificate of {{ $labels.instance }} ends within 14 days.",
        description="{{ $value | humanizeDuration }} are left: whatever renews it has not.",
        panel="resources/Certificate",
    ),
    Alert(
        name="EventLoopLagging",
        # The median of the scrapes: one long stall is another matter than no processor left.
        expr="quantile_over_time(0.5, llm_event_loop_lag_seconds[$5m]) > 0.05",
        hold_s=5 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MACHINE,
        summary="The gateway of {{ $labels.instance }} is late at everything.",
        description="In most scrapes its event loop woke over {{ $value | humanizeDuration }} too"
        " late: it lacks processor time, or something computes in it.",
        panel="resources/Event loop lag",
    ),
    Alert(
        name="GpuMemoryFull",
        expr=f"{_GPU_MEMORY} > 0.95",
        hold_s=2 * _MINUTE_S,
        severity=Severity.PAGE,
        area=Area.MACHINE,
        summary="The memory of GPU {{ $labels.gpu }} on {{ $labels.instance }} is full.",
        description="{{ $value | humanizePercentage }} are in use. The next allocation that fails"
        " ends the worker.",
        panel="resources/GPU memory",
    ),
    Alert(
        name="GpuMemoryHigh",
        expr=f"{_GPU_MEMORY} > 0.90",
        hold_s=10 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MACHINE,
        summary="The memory of GPU {{ $labels.gpu }} on {{ $labels.instance }} is nearly full.",
        description="{{ $value | humanizePercentage }} are in use; an engine that takes its share"
        " at the start leaves little for anything else.",
        panel="resources/GPU memory",
    ),
    Alert(
        name="GpuBusy",
        # Half an hour: a GPU that is busy is what was paid for; one that never rests has no room.
        expr="avg_over_time(forebay_gpu_utilization_ratio[$15m]) > 0.9",
        hold_s=15 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MACHINE,
        summary="GPU {{ $labels.gpu }} on {{ $labels.instance }} has no room left.",
        description="It was busy {{ $value | humanizePercentage }} of the last half hour; any more"
        " demand becomes waiting.",
        panel="resources/GPU utilization",
    ),
)
