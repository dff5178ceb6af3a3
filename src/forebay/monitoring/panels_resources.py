"""The dashboard `resources`: what the service runs on, and how much of it is left."""

from typing import Final

from forebay.monitoring.panel import (
    HERE,
    Dashboard,
    Kind,
    Panel,
    Query,
    Row,
    Unit,
    quantile,
    rate,
)

_INSTANCE: Final = "{{instance}}"
_GPU: Final = "{{instance}} GPU {{gpu}}"

_GPUS: Final = (
    Panel(
        title="GPU utilization",
        about="Part of the time in which each GPU computed anything.",
        queries=(Query(f"forebay_gpu_utilization_ratio{{{HERE}}}", _GPU),),
        unit=Unit.RATIO,
        width=6,
        warn=0.9,
    ),
    Panel(
        title="GPU memory",
        about="Share in use, by whomever. Full: the next allocation ends the worker.",
        queries=(
            Query(
                f"forebay_gpu_memory_used_bytes{{{HERE}}}"
                f" / forebay_gpu_memory_total_bytes{{{HERE}}}",
                _GPU,
            ),
        ),
        unit=Unit.RATIO,
        width=6,
        warn=0.90,
        alarm=0.95,
    ),
    Panel(
        title="GPU temperature",
        about="GPUs slow down when they are hot, from about 85 degrees on.",
        queries=(Query(f"forebay_gpu_temperature_celsius{{{HERE}}}", _GPU),),
        unit=Unit.CELSIUS,
        width=6,
        warn=85,
    ),
    Panel(
        title="GPU power",
        about="What each GPU draws.",
        queries=(Query(f"forebay_gpu_power_watts{{{HERE}}}", _GPU),),
        unit=Unit.WATTS,
        width=6,
    ),
)

_MACHINE: Final = (
    Panel(
        title="CPU",
        about="Processors that the gateway's process uses, and how many are allowed. Its workers'"
        " are not in it: node_exporter has the machine's.",
        queries=(
            Query(rate("process_cpu_seconds_total", f'job="forebay", {HERE}'), _INSTANCE),
            Query(f"forebay_cpu_limit_cores{{{HERE}}}", "{{instance}}, allowed"),
        ),
    ),
    Panel(
        title="CPU throttled",
        about="Share of the time in which the cgroup was held back: its share was spent.",
        queries=(Query(rate("forebay_cpu_throttled_seconds_total"), _INSTANCE),),
        unit=Unit.RATIO,
        warn=0.05,
    ),
    Panel(
        title="Memory",
        about="Share of what the cgroup or the machine allows; at 1 the kernel ends a process.",
        queries=(
            Query(
                f"forebay_memory_used_bytes{{{HERE}}} / forebay_memory_limit_bytes{{{HERE}}}",
                _INSTANCE,
            ),
        ),
        unit=Unit.RATIO,
        warn=0.8,
        alarm=0.9,
    ),
    Panel(
        title="Memory of the gateway",
        about="Resident memory of the server itself; growing without end: something leaks.",
        queries=(Query(f'process_resident_memory_bytes{{job="forebay", {HERE}}}', _INSTANCE),),
        unit=Unit.BYTES,
    ),
    Panel(
        title="Model memory",
        about="Memory of the workers of each model, its KV cache included.",
        queries=(Query(f"sum by (model) (llm_model_memory_bytes{{{HERE}}})", "{{model}}"),),
        unit=Unit.BYTES,
        kind=Kind.STACK,
    ),
    Panel(
        title="Disk",
        about="Share of each file system that is free. Full: state and logs cannot be written.",
        queries=(
            Query(
                f"forebay_disk_free_bytes{{{HERE}}} / forebay_disk_size_bytes{{{HERE}}}",
                "{{instance}} {{volume}}",
            ),
        ),
        unit=Unit.RATIO,
        warn=0.15,
        alarm=0.05,
        below=True,
    ),
)

_WORK: Final = (
    Panel(
        title="Queue",
        about="Requests that wait for a place; above 0 for minutes: scale out.",
        queries=(Query(f"sum by (model, instance) (llm_requests_waiting{{{HERE}}})", "{{model}}"),),
    ),
    Panel(
        title="KV cache",
        about="Share of each engine's KV blocks in use.",
        queries=(Query(f"llm_kv_blocks_used_ratio{{{HERE}}}", "{{model}} {{instance}}"),),
        unit=Unit.RATIO,
        warn=0.9,
        alarm=0.98,
    ),
    Panel(
        title="Event loop lag",
        about="The latest that the gateway's loop woke between two scrapes. High: it lacks a"
        " processor, or something computes in it.",
        queries=(Query(f"llm_event_loop_lag_seconds{{{HERE}}}", _INSTANCE),),
        unit=Unit.SECONDS,
        alarm=0.05,
    ),
    Panel(
        title="Workers",
        about="Models in memory, and workers replaced within 15 minutes.",
        queries=(
            Query(f"sum by (instance) (llm_model_loaded{{{HERE}}})", "{{instance}}, loaded"),
            Query(
                f"sum by (instance) (increase(llm_worker_restarts_total{{{HERE}}}[15m]))",
                "{{instance}}, replaced",
            ),
        ),
    ),
    Panel(
        title="Open files",
        about="Sockets and files of the gateway; at its limit it takes no more connections.",
        queries=(
            Query(
                f'process_open_fds{{job="forebay", {HERE}}}'
                f' / process_max_fds{{job="forebay", {HERE}}}',
                _INSTANCE,
            ),
        ),
        unit=Unit.RATIO,
        warn=0.7,
        alarm=0.9,
    ),
    Panel(
        title="Certificate",
        about="Seconds until the server's certificate ends; only with TLS.",
        queries=(
            Query(f"forebay_certificate_expiry_timestamp_seconds{{{HERE}}} - time()", _INSTANCE),
        ),
        unit=Unit.SECONDS,
        kind=Kind.STAT,
        warn=14 * 86_400,
        alarm=86_400,
        below=True,
    ),
)

_NETWORK: Final = (
    Panel(
        title="HTTP exchanges",
        about="Whatever was asked, pages and probes too, by class of status.",
        queries=(Query(f"sum by (status) ({rate('forebay_http_requests_total')})", "{{status}}"),),
        unit=Unit.PER_SECOND,
        kind=Kind.STACK,
    ),
    Panel(
        title="HTTP duration",
        about="p95 by route. Grown on probe: the gateway itself is slow.",
        queries=(
            Query(
                quantile(0.95, "forebay_http_request_duration_seconds", HERE, by="route"),
                "{{route}}",
            ),
        ),
        unit=Unit.SECONDS,
    ),
    Panel(
        title="Network",
        about="Bodies read and written; heads are not in it.",
        queries=(
            Query(f"sum({rate('forebay_http_request_size_bytes_sum')})", "read"),
            Query(f"sum({rate('forebay_http_response_size_bytes_sum')})", "written"),
        ),
        unit=Unit.BYTES_PER_SECOND,
    ),
    Panel(
        title="HTTP in progress",
        about="Exchanges that are not over, the scrape among them.",
        queries=(Query(f"forebay_http_requests_in_progress{{{HERE}}}", _INSTANCE),),
    ),
    Panel(
        title="Shared store",
        about="1 while Redis is away: keys hold within one replica, rates are shared out.",
        queries=(
            Query(f"llm_store_degraded{{{HERE}}}", "{{instance}}, keys"),
            Query(f"llm_limits_degraded{{{HERE}}}", "{{instance}}, rates"),
        ),
        alarm=1,
    ),
    Panel(
        title="Telemetry sent",
        about="Log lines, spans, readings and receipts that reached where they go.",
        queries=(Query(f"sum by (sink) ({rate('forebay_telemetry_sent_total')})", "{{sink}}"),),
        unit=Unit.PER_SECOND,
    ),
    Panel(
        title="Telemetry dropped",
        about="Given up within 15 minutes because the sink is slow, or away.",
        queries=(
            Query(
                f"sum by (sink) (increase(forebay_telemetry_dropped_total{{{HERE}}}[15m]))",
                "{{sink}}",
            ),
        ),
        alarm=1,
    ),
    Panel(
        title="Names left out of metrics",
        about="Aliases for which /metrics had no room, and models counted as unknown.",
        queries=(
            Query(f"forebay_alias_names_left_out{{{HERE}}}", "{{instance}}, aliases"),
            Query(f"forebay_metrics_names_folded{{{HERE}}}", "{{instance}}, models"),
        ),
        warn=1,
    ),
    Panel(
        title="Versions",
        about="Which versions run; several at once: a rollout is under way.",
        queries=(Query(f"count by (version) (forebay_build_info{{{HERE}}})", "{{version}}"),),
    ),
)

RESOURCES: Final = Dashboard(
    uid="resources",
    title="Forebay: resources",
    about="What the service runs on: GPUs, processors, memory, disks, network, and what is left.",
    rows=(
        Row("GPUs", _GPUS),
        Row("Machine", _MACHINE),
        Row("Work", _WORK),
        Row("Network and neighbours", _NETWORK),
    ),
    by_model=False,
)
