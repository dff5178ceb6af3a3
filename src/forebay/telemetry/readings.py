"""What metrics read when they are scraped: of each lane, and of the process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Load(Protocol):
    """How full a lane is."""

    @property
    def running(self) -> int:
        """Requests that hold a place."""

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""

    @property
    def places_taken(self) -> int:
        """Sequences that run."""

    @property
    def places_max(self) -> int:
        """Sequences that may run."""


class Door(Protocol):
    """What knows a lane's load."""

    @property
    def load(self) -> Load:
        """How full it is now."""

    @property
    def promises(self) -> Mapping[str, int]:
        """Moments promised to those refused, by what became of them: `PROMISE_RESULTS`."""


class EngineStats(Protocol):
    """An engine's gauges, counted by itself."""

    @property
    def running(self) -> int:
        """Sequences in the batch."""

    @property
    def waiting(self) -> int:
        """Sequences that wait inside the engine."""

    @property
    def blocks_used_ratio(self) -> float:
        """Share of the KV cache in use."""


class Worker(Protocol):
    """What keeps a lane's engine alive."""

    @property
    def restarts(self) -> Mapping[str, int]:
        """Workers replaced since the start, by reason."""

    @property
    def reruns(self) -> int:
        """Requests that went on with another worker."""

    @property
    def poisoned(self) -> int:
        """Requests found to end workers."""

    def gauges(self) -> EngineStats | None:
        """Return the engine's newest gauges, if it has sent any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReading:
    """What a model on offer says of itself."""

    loaded: bool = False
    memory_bytes: int = 0
    load_s: float = 0.0
    """How long its last load took; 0: it was never loaded."""
    hits: int = 0
    misses: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BookReading:
    """What budgets and the usage ledger say of themselves."""

    reservations: int = 0
    """Requests that hold something of a budget."""
    reserved_tokens: int = 0
    rows_pending: int = 0
    rows_lost: int = 0
    overruns: int = 0
    late: int = 0
    """Settlements whose reservation had expired; they were charged all the same."""
    away: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReading:
    """The file system that a folder of ours lies on."""

    free_bytes: int
    """What we may still write."""
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """A GPU, as its driver tells; None: it does not tell."""

    index: int
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    busy_ratio: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReading:
    """What the server runs on; None: not known, or there is none."""

    memory_used_bytes: int | None = None
    memory_limit_bytes: int | None = None
    cpu_limit_cores: float | None = None
    cpu_throttled_s: float | None = None
    disks: Mapping[str, DiskReading] = field(default_factory=dict)
    """By what is kept there: `VOLUMES`."""
    certificate_expires_s: float | None = None
    """Unix seconds."""
    gpus: Sequence[GpuReading] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReading:
    """What the process as a whole says of itself at this moment."""

    ready: bool = False
    """Whether new requests should come here."""
    http_in_progress: int = 0
    slo: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(objective, good or bad) -> requests that it counts."""
    sent: Mapping[str, int] = field(default_factory=dict)
    """What reached a sink of telemetry: `SINKS`."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """What was given up on its way to a sink: `SINKS`."""
    machine: MachineReading = field(default_factory=MachineReading)

    loop_lag_s: float = 0.0
    log_lines_dropped: int = 0
    imbalance: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    """Amounts by kind."""
    flights: int = 0
    cache: Mapping[str, int] = field(default_factory=dict)
    """Requests by result."""
    store_degraded: bool = False
    models: Mapping[str, ModelReading] = field(default_factory=dict)
    shares: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(route, model) -> part of the route's callers."""
    shadows_dropped: int = 0
    rate_limited: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(level, unit) -> refusals: `RATE_LIMITS`."""
    limits_alone: bool = False
    logins: Mapping[str, int] = field(default_factory=dict)
    """Attempts by how they ended: `LOGIN_RESULTS`."""
    tokens_refused: Mapping[str, int] = field(default_factory=dict)
    """Tokens by what was wrong with them: `TOKEN_FAULTS`."""
    books: BookReading = field(default_factory=BookReading)
    guarded: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(action, reason) -> prompts and answers: `GUARD_ACTIONS`, `GUARD_REASONS`."""
