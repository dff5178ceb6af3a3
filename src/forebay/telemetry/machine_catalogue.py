"""The metrics of what the server runs on: memory, processors, disks, GPUs, its certificate."""

from typing import Final

from forebay.telemetry.metric import Kind, Label, Metric

VOLUMES: Final = ("state", "models", "log")
"""Where the server writes: keys and accounts, prepared models, the log."""

MEMORY_USED: Final = Metric(
    name="forebay_memory_used_bytes",
    kind=Kind.GAUGE,
    help="Memory in use where the limit is: in the cgroup, or the whole machine; caches left out.",
    action="Near forebay_memory_limit_bytes: the kernel ends workers soon; serve less, or add.",
)
MEMORY_LIMIT: Final = Metric(
    name="forebay_memory_limit_bytes",
    kind=Kind.GAUGE,
    help="Memory that may be used: the cgroup's limit, or what the machine has.",
    action="Changed: the container was given another limit.",
)
CPU_LIMIT: Final = Metric(
    name="forebay_cpu_limit_cores",
    kind=Kind.GAUGE,
    help="Processors that may be used at once, parts of one included.",
    action="Compare with the rate of process_cpu_seconds_total and of the workers.",
)
CPU_THROTTLED: Final = Metric(
    name="forebay_cpu_throttled_seconds_total",
    kind=Kind.COUNTER,
    help="How long the cgroup was held back because its share of processors was spent.",
    action="Rising: streams stutter; raise the container's CPU limit, or take it away.",
)
DISK_FREE: Final = Metric(
    name="forebay_disk_free_bytes",
    kind=Kind.GAUGE,
    help="Bytes that the server may still write where its state, models or log lie.",
    action="Falling: free some, before keys, usage or log lines are lost.",
    labels=(Label.VOLUME,),
)
DISK_SIZE: Final = Metric(
    name="forebay_disk_size_bytes",
    kind=Kind.GAUGE,
    help="Size of the file system where the server's state, models or log lie.",
    action="Compare with forebay_disk_free_bytes.",
    labels=(Label.VOLUME,),
)
CERTIFICATE_EXPIRY: Final = Metric(
    name="forebay_certificate_expiry_timestamp_seconds",
    kind=Kind.GAUGE,
    help="When the certificate in server.tls_certificate ends, in Unix seconds; with TLS only.",
    action="Within two weeks: renew it, then POST /admin/reload.",
)
GPU_MEMORY_USED: Final = Metric(
    name="forebay_gpu_memory_used_bytes",
    kind=Kind.GAUGE,
    help="Memory in use on a GPU, by whomever, as NVML says.",
    action="Near forebay_gpu_memory_total_bytes: the next allocation fails; lower the KV cache.",
    labels=(Label.GPU,),
)
GPU_MEMORY_TOTAL: Final = Metric(
    name="forebay_gpu_memory_total_bytes",
    kind=Kind.GAUGE,
    help="Memory that a GPU has.",
    action="Compare with forebay_gpu_memory_used_bytes.",
    labels=(Label.GPU,),
)
GPU_BUSY: Final = Metric(
    name="forebay_gpu_utilization_ratio",
    kind=Kind.GAUGE,
    help="Part of the last sample in which a GPU computed anything.",
    action="Low while requests wait: the processors before it are the bottleneck.",
    labels=(Label.GPU,),
)
GPU_TEMPERATURE: Final = Metric(
    name="forebay_gpu_temperature_celsius",
    kind=Kind.GAUGE,
    help="Temperature of a GPU.",
    action="Above 85: it slows down; look at its cooling.",
    labels=(Label.GPU,),
)
GPU_POWER: Final = Metric(
    name="forebay_gpu_power_watts",
    kind=Kind.GAUGE,
    help="Power that a GPU draws.",
    action="At its limit for long: it slows down.",
    labels=(Label.GPU,),
)

MACHINE_METRICS: Final = (
    *(MEMORY_USED, MEMORY_LIMIT, CPU_LIMIT, CPU_THROTTLED),
    *(DISK_FREE, DISK_SIZE, CERTIFICATE_EXPIRY),
    *(GPU_MEMORY_USED, GPU_MEMORY_TOTAL, GPU_BUSY, GPU_TEMPERATURE, GPU_POWER),
)
