"""The cases of callers, engines and models: every fault that needs a server and nothing else."""

import signal
from collections.abc import Callable
from typing import Final

from forebay.drill import alerts_faults as faults
from forebay.drill import alerts_machine as machine
from forebay.drill.alerts_callers import ordinary, repeatable, said
from forebay.drill.alerts_case import Case

_SLOW_PREFILL: Final = (
    *("scripted.prefill_s_per_token=0.01", "admission.interactive_ttft_s=60"),
    *("admission.forecast=false", "cache.enabled=false"),
)
_BURNS: Final = frozenset({"ErrorBudgetBurnFast", "ErrorBudgetBurn", "ErrorBudgetBurnSlow"})
_ERRORS: Final = frozenset({"HighErrorRate", "VeryHighErrorRate"}) | _BURNS
_SLOW: Final = frozenset({"SlowFirstToken", "VerySlowFirstToken", "ForecastOff"}) | _BURNS


def _of_tokens(tokens: int, *, answer: int = 4) -> Callable[[int], bytes]:
    """Return requests with a prompt of so many tokens."""
    words = "word " * (tokens - 2)
    return lambda number: said(f"{number:>6} {words}", tokens=answer)


def _deadly(number: int) -> bytes:
    return ordinary(number) if number % 40 else said("!die now")


def _repeated(_number: int) -> bytes:
    return said("the same words", temperature=0)


SERVICE: Final = (
    Case(
        name="server killed",
        alerts=("ForebayDown",),
        injected="kill -9 of the server",
        plan=machine.plan(faults.server_killed),
        companions=_BURNS,
    ),
    Case(
        name="half of the answers fail",
        alerts=("VeryHighErrorRate",),
        injected="the engine fails every second request",
        plan=machine.plan(faults.asking(faults.one_in(2, "!fail"))),
        companions=_BURNS,
        muted=frozenset({"HighErrorRate"}),
    ),
    Case(
        name="one answer in fourteen fails",
        alerts=("HighErrorRate",),
        injected="the engine fails 7 % of the requests",
        # Half an hour of rule time before it, else it burns the budget of hours as well.
        plan=machine.plan(faults.asking(faults.one_in(14, "!fail")), pace_s=0.025, before_s=30.0),
        companions=_BURNS,
    ),
    Case(
        name="budget burnt 100 times too fast",
        alerts=("ErrorBudgetBurnFast",),
        injected="the engine fails every second request",
        plan=machine.plan(faults.asking(faults.one_in(2, "!fail"))),
        companions=_ERRORS,
        muted=frozenset({"ErrorBudgetBurn", "ErrorBudgetBurnSlow"}),
        speed=720.0,
    ),
    Case(
        name="budget burnt 9 times too fast",
        alerts=("ErrorBudgetBurn",),
        injected="the engine fails 4.5 % of the requests",
        plan=machine.plan(faults.asking(faults.one_in(22, "!fail")), pace_s=0.02),
        companions=_BURNS,
        speed=720.0,
    ),
    Case(
        name="budget burnt 3 times too fast",
        alerts=("ErrorBudgetBurnSlow",),
        injected="the engine fails 1.4 % of the requests",
        plan=machine.plan(faults.asking(faults.one_in(70, "!fail")), pace_s=0.02),
        companions=_BURNS,
        speed=720.0,
    ),
    Case(
        name="prompts of 600 tokens",
        alerts=("VerySlowFirstToken",),
        injected="prompts of 600 tokens, which the engine reads in 6 s",
        plan=machine.plan(faults.asking(_of_tokens(600)), settings=_SLOW_PREFILL),
        companions=_SLOW,
        muted=frozenset({"SlowFirstToken"}),
    ),
    Case(
        name="prompts of 300 tokens",
        alerts=("SlowFirstToken",),
        injected="prompts of 300 tokens, which the engine reads in 3 s",
        plan=machine.plan(faults.asking(_of_tokens(300)), settings=_SLOW_PREFILL),
        companions=_SLOW,
    ),
    Case(
        name="answers of 240 tokens",
        alerts=("HighResponseTime",),
        injected="answers of 240 tokens, which the engine makes in 12 s",
        plan=machine.plan(
            faults.asking(lambda number: said(f"long words {number}", tokens=240), pace_s=0.2),
            settings=("scripted.decode_s=0.05",),
        ),
        # Tokens are counted when an answer ends, and none ends within a window of 5 s.
        companions=_BURNS | {"LowTokenRate"},
    ),
    Case(
        name="engine at 2 tokens/s",
        alerts=("LowTokenRate",),
        injected="an engine that takes 0.4 s for each token",
        plan=machine.plan(
            faults.asking(lambda number: said("a !slow " * 6 + str(number), tokens=6), pace_s=1.0),
            settings=("admission.forecast=false",),
        ),
        companions=_SLOW | {"Saturated", "HighResponseTime"},
    ),
)

MODEL: Final = (
    Case(
        name="worker killed again and again",
        alerts=("WorkerCrashLoop", "NotReady"),
        injected="kill -9 of every worker as soon as there is one",
        plan=machine.plan(
            faults.workers_killed(every_s=0.05), settings=("supervisor.restart_wait_s_max=1",)
        ),
        companions=_ERRORS | _SLOW | {"PoisonedRequests"},
    ),
    Case(
        name="a request that ends the engine",
        alerts=("PoisonedRequests",),
        injected="a request at which the engine exits",
        plan=machine.plan(faults.asking(_deadly)),
        companions=_ERRORS | _SLOW | {"WorkerCrashLoop"},
        clears_s_max=200.0,
    ),
    Case(
        name="a model that cannot be loaded",
        alerts=("ModelLoadFailures",),
        injected="kill -9 of each worker of a second model while it loads",
        plan=machine.two_models(),
        companions=_ERRORS | {"WorkerCrashLoop"},
        speed=120.0,
    ),
    Case(
        name="more than it can do",
        alerts=("Saturated",),
        injected="callers ask 15 % more than the engine can do",
        plan=machine.plan(
            faults.asking(lambda number: said(f"some words {number}", tokens=16), pace_s=0.07),
            settings=(
                *("scripted.decode_s=0.02", "scripted.running_max=4"),
                *("admission.interactive_ttft_s=60", "admission.forecast=false"),
            ),
        ),
        companions=_SLOW | {"HighResponseTime"},
    ),
    Case(
        name="engine stands still at times",
        alerts=("ForecastOff",),
        injected="the engine stands still for 5.6 of every 9 s",
        plan=machine.plan(
            # Within a step; a worker that were stopped would be replaced.
            faults.asking(faults.one_in(90, "!slow " * 14)),
            # Two places: of those who find one free, nothing is foretold.
            settings=(
                *("scripted.running_max=2", "scripted.decode_s=0.01"),
                *("supervisor.stall_s=30", "admission.interactive_ttft_s=60"),
            ),
        ),
        companions=_SLOW | {"LowTokenRate", "Saturated", "HighResponseTime"},
    ),
    Case(
        name="a request is forgotten",
        alerts=("LedgerBroken",),
        injected="a server that receives a request and never ends it (drill/forgetful.py)",
        plan=machine.plan(
            faults.done(
                lambda scene: scene.server.process.send_signal(signal.SIGUSR1),
                lambda scene: scene.server.process.send_signal(signal.SIGUSR2),
            ),
            module="forebay.drill.forgetful",
        ),
    ),
    Case(
        name="prompts that were never seen",
        alerts=("CacheCollapse",),
        injected="callers ask what the cache has never seen",
        plan=machine.plan(faults.asking(repeatable), wish=_repeated, pace_s=0.05, before_s=20.0),
    ),
    Case(
        name="event loop stands still",
        alerts=("EventLoopLagging",),
        injected="the gateway stands still for 0.3 of every 0.6 s (SIGSTOP)",
        plan=machine.plan(faults.stop_and_go(faults.gateway, stop_s=0.3, go_s=0.3)),
    ),
)
