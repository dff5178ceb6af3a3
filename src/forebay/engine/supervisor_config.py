"""When a worker counts as lost, and what happens then."""

from dataclasses import dataclass

from forebay.core.knob import knob
from forebay.engine.worker_process import WorkerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorConfig(WorkerConfig):
    """When a worker counts as lost, and what happens then."""

    stall_s: float = knob(
        3.0,
        "Silence after which a worker is lost, in seconds; at least the engine's longest step.",
        minimum=0.5,
        maximum=600.0,
    )
    progress_s_max: float = knob(
        120.0,
        "Longest time that requests may run without a single token, in seconds.",
        minimum=1.0,
        maximum=3_600.0,
    )
    resubmits_max: int = knob(
        1,
        "How often a request goes on with another worker when its own is lost.",
        minimum=0,
        maximum=10,
    )
    starts_max: int = knob(
        3, "Attempts to start the first worker before giving up.", minimum=1, maximum=100
    )
    restart_wait_s_min: float = knob(
        0.5,
        "Bound of the wait before the second restart in a row, in seconds; then it doubles.",
        minimum=0.0,
        maximum=60.0,
    )
    restart_wait_s_max: float = knob(
        30.0, "Longest wait before a restart, in seconds.", minimum=0.0, maximum=3_600.0
    )
    rerun_share_max: float = knob(
        0.2,
        "Most re-runs after losses, as a share of the requests.",
        minimum=0.0,
        maximum=1.0,
    )
    reruns_per_s_min: float = knob(
        10.0, "Re-runs a second that are allowed besides that share.", minimum=0.0, maximum=1e6
    )
    barred_s: float = knob(
        600.0,
        "How long a request that killed two workers is refused when it is sent again, in seconds.",
        minimum=0.0,
        maximum=86_400.0,
    )
    restart_calm_s: float = knob(
        60.0,
        "A worker that was ready for so many seconds is replaced at once when it is lost.",
        minimum=0.0,
        maximum=3_600.0,
    )
    pending_deltas_max: int = knob(
        64,
        "Pieces of one choice that wait for a slow reader before they are merged.",
        minimum=8,
        maximum=10_000,
    )
