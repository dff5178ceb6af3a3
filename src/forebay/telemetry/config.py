"""How the server tells its numbers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from forebay.core.knob import knob
from forebay.telemetry.alias_table import ALIAS_TABLE
from forebay.telemetry.aliases import Aliases, AliasSet

METRICS_PATHS: Final = ("/metrics", "/prometheus")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """What `/metrics` serves, and how often slow readings are made."""

    enabled: bool = knob(default=True, help="Serve metrics; off: their paths are found by nobody.")
    path: str = knob(
        "", "One more path to serve them at, beside /metrics and /prometheus; empty: none."
    )
    aliases: str = knob(
        "source,vllm",
        "Whose names are served beside the canonical ones, comma-separated: source (those of the "
        "source documents), vllm; empty: none. docs/metrics.md lists them.",
    )
    series_max: int = knob(
        2_000,
        "Most series of the page; aliases that do not fit are left out.",
        minimum=0,
        maximum=100_000,
    )
    exemplars: bool = knob(
        default=True,
        help="In OpenMetrics, name a trace beside buckets of latency, where one is kept.",
        live=True,
    )
    sample_s: float = knob(
        5.0,
        "Between two readings of disks, GPUs and the certificate, in seconds.",
        minimum=0.1,
        maximum=300.0,
    )
    names_max: int = knob(
        32,
        "Most models and versions that are counted apart, some 330 series each; more are counted "
        "as `unknown`.",
        minimum=1,
        maximum=512,
    )

    @property
    def paths(self) -> tuple[str, ...]:
        """Where metrics are served."""
        if not self.enabled:
            return ()
        return tuple(dict.fromkeys((*METRICS_PATHS, *((self.path,) if self.path else ()))))


def misfits(config: MetricsConfig) -> Iterator[tuple[str, str]]:
    """Yield the key of each setting that cannot be read, and why."""
    if config.path and not _PATH.fullmatch(config.path):
        yield "metrics.path", "metrics.path must begin with / and name a path, as in /prometheus."
    try:
        alias_sets(config.aliases)
    except ValueError as error:
        yield "metrics.aliases", f"metrics.aliases: {error}."


def alias_sets(text: str) -> frozenset[AliasSet]:
    """Return the sets that a text names; raises ValueError of one that there is not."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = ", ".join(AliasSet)
    if any(name not in set(AliasSet) for name in names):
        raise ValueError(f"known are {known}, or nothing")
    return frozenset(map(AliasSet, names))


def aliases(config: MetricsConfig) -> Aliases:
    """Return the aliases that are served."""
    wanted = alias_sets(config.aliases)
    table = tuple(alias for alias in ALIAS_TABLE if alias.set in wanted)
    return Aliases(table=table, series_max=config.series_max)
