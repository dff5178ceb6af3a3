"""The knobs of a lane's door."""

from dataclasses import dataclass

from forebay.core.knob import knob
from forebay.core.request import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """How much is let in, how much may wait, for how long, and who goes first."""

    running_max: int = knob(
        0,
        "Sequences that run at once per model; 0 takes the engine's own batch size.",
        minimum=0,
        maximum=100_000,
    )
    limit: str = knob(
        "fixed",
        "How many run: fixed, always running_max; aimd, as many of them as the engine does well.",
        choices=("fixed", "aimd"),
    )
    limit_first_token_s: float = knob(
        1.0,
        "With limit aimd: the engine's own time to first token, in seconds, that is well.",
        minimum=0.001,
        maximum=3600.0,
    )
    limit_tpot_s: float = knob(
        0.25,
        "With limit aimd: the engine's time per token, in seconds, that is well.",
        minimum=0.0001,
        maximum=60.0,
    )
    waiting_max: int = knob(
        256,
        "Requests that may wait for a place per model; one more is refused with 503.",
        minimum=0,
        maximum=100_000,
        live=True,
    )
    requests_max: int = knob(
        0,
        "Requests per model that run or wait, together; 0 sets no limit beside the other two.",
        minimum=0,
        maximum=200_000,
        live=True,
    )
    wait_s_max: float = knob(
        30.0,
        "Longest wait for a place, in seconds; a request that waited longer ends with 503.",
        minimum=0.01,
        maximum=3600.0,
        live=True,
    )
    storm_per_s: int = knob(
        100,
        "From so many refusals a second like requests of a tenant are refused unread; 0: never.",
        minimum=0,
        maximum=1_000_000,
        live=True,
    )
    standing_s: float = knob(
        1.0,
        "A queue not empty for so long only delays: who comes then waits at most its class's TTFT.",
        minimum=0.001,
        maximum=3600.0,
    )
    forecast: bool = knob(
        default=True,
        help="Refuse at once what could not meet its deadline or its class's time to first token.",
        live=True,
    )
    interactive_ttft_s: float = knob(
        2.0,
        "The time to first token, in seconds, that interactive requests are to have.",
        minimum=0.01,
        maximum=3600.0,
        live=True,
    )
    batch_ttft_s: float = knob(
        60.0,
        "The time to first token, in seconds, that batch requests are to have.",
        minimum=0.01,
        maximum=86_400.0,
        live=True,
    )
    ttft_ratio: float = knob(
        0.5,
        "Share of its class's time to first token that one may be expected to take that waits.",
        minimum=0.01,
        maximum=100.0,
        live=True,
    )
    batch_overtaken_max: int = knob(
        9,
        "Interactive requests that go before waiting batch ones until one of those has its turn.",
        minimum=1,
        maximum=1_000_000,
        live=True,
    )
    tenant_weights: str = knob(
        "",
        "Tenants that get more or less than an equal share, such as alice=2,bob=0.5.",
    )
    credit_tokens: int = knob(
        2_000,
        "How far a tenant that comes is ahead of those that never stop; 2 per completion token.",
        minimum=0,
        maximum=100_000_000,
    )
    reserve_ratio: float = knob(
        0.25,
        "While several tenants come: share of the places that none gets beyond its share of all.",
        minimum=0.0,
        maximum=0.9,
        live=True,
    )
    reserve_s: float = knob(
        30.0,
        "How long after another tenant came those places are still kept, in seconds.",
        minimum=0.0,
        maximum=3600.0,
        live=True,
    )
    tenants_max: int = knob(
        10_000,
        "Tenants whose use is remembered per model and class.",
        minimum=1,
        maximum=1_000_000,
    )
    promises_max: int = knob(
        10_000,
        "Refused requests per model that are promised a place when they come back in time.",
        minimum=0,
        maximum=1_000_000,
    )
    promise_grace_s: float = knob(
        5.0,
        "How late a refused request may come back, in seconds, and still have its place.",
        minimum=0.0,
        maximum=600.0,
    )
    promise_horizon_s: float = knob(
        600.0,
        "The longest Retry-After, in seconds; what would come later is promised nothing.",
        minimum=1.0,
        maximum=86_400.0,
    )
    promise_tenant_s_max: float = knob(
        600.0,
        "Seconds of a model's work that may be promised to one tenant; lower it among strangers.",
        minimum=0.0,
        maximum=86_400.0,
    )
    promise_ratio: float = knob(
        0.8,
        "Share of the places that may be promised to those who were refused.",
        minimum=0.01,
        maximum=1.0,
    )

    def ttft_s(self, priority: Priority) -> float:
        """Return the time to first token that a class is to have, seconds."""
        interactive = priority is Priority.INTERACTIVE
        return self.interactive_ttft_s if interactive else self.batch_ttft_s
