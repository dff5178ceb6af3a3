"""The knobs of the input guard."""

import enum
from dataclasses import dataclass
from typing import Final

from forebay.core.knob import knob


class Mode(enum.StrEnum):
    """What happens to a request whose texts are suspected."""

    OFF = "off"
    FLAG = "flag"
    """It is served, logged and counted."""
    BLOCK = "block"
    """It is refused; so is what cannot be screened."""


class Invisible(enum.StrEnum):
    """What becomes of characters that nobody sees and a model reads."""

    KEEP = "keep"
    REMOVE = "remove"


_SECTION_BYTES: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """What is screened in prompts, and what follows."""

    mode: str = knob(
        "off",
        "What to do with prompts that look like prompt injection: nothing, log them, refuse them.",
        choices=tuple(Mode),
        live=True,
    )
    score_min: float = knob(
        0.8,
        "From which score (0 to 1) a text is suspected; docs/guard.md has the curve.",
        minimum=0.05,
        maximum=1.0,
        live=True,
    )
    inspected_bytes_max: int = knob(
        524_288,
        "Most bytes of a prompt that are screened; with block, a longer one is refused.",
        minimum=_SECTION_BYTES,
        maximum=16_777_216,
        live=True,
    )
    inline_bytes_max: int = knob(
        4_096,
        "Prompts up to this many bytes are screened at once, longer ones in a thread.",
        minimum=0,
        maximum=65_536,
        live=True,
    )
    waiting_max: int = knob(
        64,
        "Most long prompts that wait for that thread; with block, one more is refused with 503.",
        minimum=1,
        maximum=10_000,
        live=True,
    )
    remembered_max: int = knob(
        4_096,
        "Most texts whose verdict is remembered, so that a conversation's turns are judged once.",
        minimum=0,
        maximum=1_000_000,
        live=True,
    )
    invisible: str = knob(
        "keep",
        "Whether invisible characters that can carry hidden text reach the model.",
        choices=tuple(Invisible),
        live=True,
    )
    canary: bool = knob(
        default=False,
        help="Put a secret word into system messages, and look for it in the answers.",
        live=True,
    )
    canary_secret: str = knob(
        "",
        "What the secret words are made from; empty: a new secret with each start.",
        secret=True,
    )
