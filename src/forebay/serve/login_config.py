"""How much work logins may make, and how long somebody who fails has to wait."""

from dataclasses import dataclass

from forebay.core.knob import knob
from forebay.policy.login_backoff import BackoffConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginConfig(BackoffConfig):
    """Logins with a password."""

    hashing_threads: int = knob(
        1,
        "Threads that check passwords; each takes accounts.password_memory_bytes while it does.",
        minimum=1,
        maximum=64,
    )
    hashing_waiting_max: int = knob(
        16,
        "Most passwords that wait to be checked; more are refused with 503.",
        minimum=0,
        maximum=10_000,
    )
    hashing_share_max: float = knob(
        0.02,
        "Most of one core that checking wrong passwords takes, in the long run; more are refused "
        "with 503.",
        minimum=0.001,
        maximum=64.0,
    )
    hashing_burst_s: float = knob(
        0.5,
        "How many seconds of that work may be done at once after a rest; half of it is kept for "
        "those who have logged in from the same address before.",
        minimum=0.1,
        maximum=600.0,
    )
