"""Which alert makes another one needless to tell."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Inhibition:
    """While `by` fires, nobody is told of `of` with the same `equal` labels."""

    by: str
    of: tuple[str, ...] = ()
    """Empty: of every other one."""
    equal: tuple[str, ...]
    """A label that both lack is equal, too."""
    because: str


INHIBITIONS: Final = (
    Inhibition(
        by="ForebayDown",
        equal=("service", "instance"),
        because="A server that is gone has no other trouble.",
    ),
    Inhibition(
        by="VeryHighErrorRate",
        of=("HighErrorRate",),
        equal=("service", "model"),
        because="Over 10 % is over 5 %.",
    ),
    Inhibition(
        by="VerySlowFirstToken",
        of=("SlowFirstToken",),
        equal=("service", "model"),
        because="Over 5 s is over 2 s.",
    ),
    Inhibition(
        by="ErrorBudgetBurnFast",
        of=("ErrorBudgetBurn", "ErrorBudgetBurnSlow"),
        equal=("service", "slo"),
        because="The same budget; the fastest burn says how soon it is gone.",
    ),
    Inhibition(
        by="ErrorBudgetBurn",
        of=("ErrorBudgetBurnSlow",),
        equal=("service", "slo"),
        because="The same budget; the faster burn says how soon it is gone.",
    ),
    Inhibition(
        by="GpuMemoryFull",
        of=("GpuMemoryHigh",),
        equal=("service", "instance", "gpu"),
        because="Over 95 % is over 90 %.",
    ),
    Inhibition(
        by="DiskFull",
        of=("DiskFilling",),
        equal=("service", "instance", "volume"),
        because="What is full has filled up.",
    ),
    Inhibition(
        by="CertificateExpired",
        of=("CertificateExpiring",),
        equal=("service", "instance"),
        because="Less than a day is less than 14.",
    ),
)
