"""What a receipt and the header `Server-Timing` cost: microseconds of one core, in one process."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final, cast

from forebay.core.clock import MONOTONIC
from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import (
    Admitted,
    Chat,
    Delta,
    EngineTiming,
    Finished,
    Message,
    Request,
    RequestId,
    Role,
    Route,
    Sampling,
    Scheduled,
    Usage,
)
from forebay.core.visit import Visit
from forebay.gateway.arrival import Arrivals
from forebay.gateway.exchange import Exchange
from forebay.gateway.server_timing import timing
from forebay.telemetry.loop_lag import LoopLag
from forebay.telemetry.receipts import Receipts, ReceiptsConfig

_COUNT: Final = 20_000
_TOGETHER: Final = 32
"""Records that are taken up in one go."""
_ROUNDS: Final = 5


def costs() -> dict[str, float]:
    """Return the microseconds of each, the least over rounds: others use the machine, too."""
    lag = LoopLag(MONOTONIC)
    arrivals, transport = Arrivals(lag), cast("asyncio.Transport", None)
    told = SimpleNamespace(config=SimpleNamespace(server_timing=True), visit=a_record(0).visit)
    exchange = cast("Exchange", told)
    return {
        "a receipt, its eviction included": min(_keeping_us(lag) for _ in range(_ROUNDS)),
        "the header Server-Timing": _us(lambda: timing(exchange, stream=False)),
        "when a head arrived": _us(lambda: arrivals.of(transport)),
    }


def _us(work: Callable[[], object]) -> float:
    took = []
    for _ in range(_ROUNDS):
        began = time.thread_time()
        for _ in range(_COUNT):
            work()
        took.append((time.thread_time() - began) / _COUNT * 1e6)
    return min(took)


def _keeping_us(lag: LoopLag) -> float:
    """Return what a receipt costs, with records as fresh as a server's are."""
    receipts, took_s = Receipts(ReceiptsConfig(kept_max=_COUNT // 4), lag.stalled_s), 0.0
    for first in range(0, _COUNT, _TOGETHER):
        records = [a_record(index) for index in range(first, first + _TOGETHER)]
        began = time.thread_time()
        for record in records:
            receipts(record)
            receipts.over(cast("Visit", record.visit))
        took_s += time.thread_time() - began
    return took_s / _COUNT * 1e6


def a_record(index: int) -> RequestRecord:
    """Return a whole answer's record, as the pipeline writes it."""
    id = RequestId(f"{index:024x}")
    timeline = Timeline(received=10.0)
    usage = Usage(prompt_tokens=12, completion_tokens=8)
    timeline.saw(Admitted(0.1), 11.0)
    timeline.saw(Scheduled(12), 12.0)
    timeline.saw(Delta("x", tokens=8), 13.0)
    timeline.saw(Finished(usage, EngineTiming(first_token_s=0.5)), 14.0)
    timeline.ended = 15.0
    visit = Visit(
        id=id, method="POST", path="/v1/chat/completions", received=10.0, client="127.0.0.1"
    )
    visit.let_in, visit.understood, visit.making, visit.screened = 10.1, 10.2, 10.3, 10.4
    visit.ended, visit.workers, visit.status, visit.timeline = 15.1, (0,), 200, timeline
    request = Request(
        id=id,
        route=Route.CHAT_COMPLETIONS,
        model="m",
        prompt=Chat(messages=(Message(role=Role.USER, content="hello"),)),
        sampling=Sampling(),
        received=10.0,
        deadline=100.0,
    )
    return RequestRecord(
        id=id,
        route=request.route,
        model="m",
        outcome=Outcome.OK,
        status=200,
        timeline=timeline,
        request=request,
        usage=usage,
        visit=visit,
    )
