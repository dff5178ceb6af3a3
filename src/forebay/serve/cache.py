"""Answers that may be given again."""

from dataclasses import dataclass

from forebay.core.knob import knob


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Which answers are kept to be given again, and how many of them."""

    enabled: bool = knob(default=True, help="Answer repeatable requests from memory.")
    scope: str = knob(
        "deterministic",
        "What is kept: repeatable requests (temperature 0, or a seed), or all.",
        choices=("deterministic", "all"),
    )
