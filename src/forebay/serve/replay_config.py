"""The knobs of replay: how long keys live, how much is kept, and where."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forebay.core.knob import knob


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """What answers are shared and kept for a key, and where."""

    enabled: bool = knob(
        default=True, help="Honour Idempotency-Key: one key, one generation.", live=True
    )
    coalesce: bool = knob(
        default=True,
        help="Make one generation for equal repeatable requests of a tenant that come at once.",
        live=True,
    )
    linger_s: float = knob(
        30.0,
        "How long the generation of a key goes on when nobody reads it, in seconds.",
        minimum=0.0,
        maximum=3_600.0,
        live=True,
    )
    linger_pressed_s: float = knob(
        2.0,
        "The same while other requests wait for a place, in seconds; never longer than linger_s.",
        minimum=0.0,
        maximum=3_600.0,
    )
    lease_s: float = knob(
        10.0,
        "How long a key stays claimed by a process that has died, in seconds.",
        minimum=0.1,
        maximum=600.0,
    )
    ttl_s: float = knob(
        86_400.0,
        "How long the answer of a key is kept, in seconds.",
        minimum=1.0,
        maximum=2_592_000.0,
        live=True,
    )
    poll_s: float = knob(
        0.05,
        "How often the answer that another process makes is asked for, in seconds.",
        minimum=0.005,
        maximum=10.0,
        live=True,
    )
    flights_max: int = knob(
        4_096,
        "Most generations that are shared or keyed at once; keys beyond are refused with 503.",
        minimum=1,
        maximum=1_000_000,
        live=True,
    )
    flight_bytes_max: int = knob(
        4_194_304,
        "Most memory for one answer that is shared or keyed; a longer one cannot be read again.",
        minimum=1_024,
        maximum=1_073_741_824,
        live=True,
    )
    flights_bytes_max: int = knob(
        268_435_456,
        "Most memory for all answers under way that are shared or keyed, in bytes.",
        minimum=65_536,
        maximum=1_099_511_627_776,
    )
    store: str = knob(
        "sqlite",
        "Where keys' answers are kept: a file, or this process alone. store.url goes before it.",
        choices=("sqlite", "memory"),
    )
    path: str = knob(
        "",
        "File of the sqlite store; empty is $XDG_STATE_HOME/forebay/replay.sqlite.",
    )
    store_bytes_max: int = knob(
        1_073_741_824,
        "Most bytes of kept answers in the file or in Redis; the oldest go first.",
        minimum=65_536,
        maximum=1_099_511_627_776,
    )
    memory_bytes_max: int = knob(
        67_108_864,
        "Most bytes of kept answers in memory: for the memory store, or while the store is away.",
        minimum=65_536,
        maximum=1_099_511_627_776,
    )
    entries_max: int = knob(
        200_000,
        "Most kept answers; the oldest go first.",
        minimum=1,
        maximum=100_000_000,
    )
    store_s_max: float = knob(
        5.0,
        "How long the file may take to answer, in seconds; then this process goes on alone.",
        minimum=0.01,
        maximum=60.0,
    )

    def file(self, environ: Mapping[str, str] = os.environ) -> Path:
        """Return the file of the sqlite store."""
        if self.path:
            return Path(self.path).expanduser()
        states = environ.get("XDG_STATE_HOME")
        folder = Path(states) if states else Path.home() / ".local" / "state"
        return folder / "forebay" / "replay.sqlite"
