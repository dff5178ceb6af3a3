"""What those may ask who have no limits of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from forebay.core.knob import knob
from forebay.policy.rate import parse_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """What those may ask who have no limits of their own; rates such as `100/minute`."""

    requests: str = knob(
        "",
        "Requests of each user, such as 5/minute or 1000/hour; empty: 100/minute where accounts "
        "are asked for, else no limit.",
        live=True,
    )
    requests_per_key: str = knob("", "Requests of each API key; empty: no limit.", live=True)
    requests_per_tenant: str = knob("", "Requests of each tenant; empty: no limit.", live=True)
    tokens: str = knob(
        "",
        "Tokens of each user, prompts and completions together, such as 100000/minute; empty: no "
        "limit.",
        live=True,
    )
    tokens_per_key: str = knob("", "Tokens of each API key; empty: no limit.", live=True)
    tokens_per_tenant: str = knob("", "Tokens of each tenant; empty: no limit.", live=True)
    concurrent_max: int = knob(
        0, "Requests at once of each user; 0: no limit.", minimum=0, maximum=100_000, live=True
    )
    concurrent_per_key_max: int = knob(
        0, "Requests at once of each API key; 0: no limit.", minimum=0, maximum=100_000, live=True
    )
    concurrent_per_tenant_max: int = knob(
        0, "Requests at once of each tenant; 0: no limit.", minimum=0, maximum=100_000, live=True
    )
    health: str = knob(
        "10/minute",
        "GET /health of each client address without a credential, where accounts are asked for; "
        "empty: no limit.",
        live=True,
    )
    probes: str = knob(
        "600/minute",
        "GET /livez, /readyz and /startupz of each client address, where accounts are asked for; "
        "empty: no limit.",
        live=True,
    )
    accounts_max: int = knob(
        100_000,
        "Accounts, and as many addresses, that this server counts apart, 200 bytes each; while so "
        "many owe something, newcomers share what one may ask.",
        minimum=100,
        maximum=10_000_000,
        live=True,
    )
    replicas_max: int = knob(
        1,
        "Most servers that share limits in Redis; while it is away each allows its part.",
        minimum=1,
        maximum=1_000,
        live=True,
    )


RATES: Final = (
    *("requests", "requests_per_key", "requests_per_tenant"),
    *("tokens", "tokens_per_key", "tokens_per_tenant"),
    *("health", "probes"),
)
"""Knobs that are rates as text."""


def misfits(config: LimitsConfig) -> Iterator[tuple[str, str]]:
    """Yield each rate that cannot be read: its key and what is wrong with it."""
    for name in RATES:
        try:
            parse_rate(getattr(config, name))
        except ValueError as error:
            yield f"limits.{name}", f"limits.{name}: {error}."
