"""What limits add to a request, in this process: counted at the door, taken, settled, told.

    python -m benchmarks.limits

Absolute figures mean little on a machine that others use; beside each stands how many times as
long it takes as `json.loads` of a small chat request, in the same run.

Predicted before it was first run, for a user with a key and a tenant: nothing limited 0.5 us;
`enter` in memory 6 us; `of` in memory, settled, 15 us; headers 3 us; `enter` through Redis 200 us,
`of` 230 us.  The step's goal is 500 us for credentials, limits and guard together.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from forebay.core.caller import Account, Caller, Level
from forebay.core.clock import MONOTONIC
from forebay.core.request import (
    Chat,
    Delta,
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
from forebay.drill.redis_server import is_installed, running_redis
from forebay.gateway.quota_headers import headers
from forebay.serve.allowance import Allowance
from forebay.serve.limits import Limits
from forebay.serve.limits_config import LimitsConfig
from forebay.serve.limits_redis import limiter
from forebay.serve.redis_link import StoreConfig

_ROUNDS: Final = 9
_PLENTY: Final = "1000000000/minute"
_LIMITED: Final = LimitsConfig(
    requests=_PLENTY,
    requests_per_key=_PLENTY,
    requests_per_tenant=_PLENTY,
    tokens=_PLENTY,
    tokens_per_key=_PLENTY,
    tokens_per_tenant=_PLENTY,
    concurrent_max=100,
)
_CALLER: Final = Caller(
    tenant="acme",
    user="alice",
    key_id="k123456789",
    accounts=(
        Account(level=Level.KEY, id="k123456789"),
        Account(level=Level.USER, id="alice"),
        Account(level=Level.TENANT, id="acme"),
    ),
)
_BODY: Final = json.dumps(
    {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You answer briefly. " * 10},
            {"role": "user", "content": "What is a forebay, and why would one want it? " * 10},
        ],
        "max_tokens": 128,
        "temperature": 0.2,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """How long one thing takes: the median of rounds."""

    name: str
    us: float
    ratio: float
    """Times `json.loads` of a small chat request."""


def _request(caller: Caller) -> Request:
    turns = json.loads(_BODY)["messages"]
    return Request(
        id=RequestId("r"),
        route=Route.CHAT_COMPLETIONS,
        model="m",
        prompt=Chat(
            messages=tuple(
                Message(role=Role(turn["role"]), content=turn["content"]) for turn in turns
            )
        ),
        sampling=Sampling(tokens_max=128),
        received=0.0,
        deadline=1e9,
        caller=caller,
    )


async def _us(act: Callable[[], Awaitable[None]], times: int) -> float:
    """Return microseconds per call: the median of rounds."""
    found = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            await act()
        found.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(found)


def _acts(limits: Limits, caller: Caller) -> dict[str, Callable[[], Awaitable[None]]]:
    allowance = Allowance(limits, None, MONOTONIC, most=lambda _: 512)
    request = _request(caller)
    events = (Scheduled(90), Delta("x"), Finished(Usage(prompt_tokens=90, completion_tokens=1)))

    async def enter() -> None:
        await limits.enter(caller)

    async def spend() -> None:
        async with allowance.of(request) as spending:
            for event in events:
                spending.saw(event)

    return {"enter": enter, "of": spend}


@contextlib.asynccontextmanager
async def _limits(config: LimitsConfig, url: str = "") -> AsyncIterator[Limits]:
    kept = limiter(
        config, StoreConfig(url=url, timeout_s=1.0), now=MONOTONIC, log=lambda *_, **__: None
    )
    await kept.open()
    yield Limits(kept, config, MONOTONIC)
    await kept.close()


async def measure(times: int, url: str = "") -> list[Figure]:
    """Measure each with so many calls a round; `url`: of a Redis, if there is one."""

    async def loads() -> None:
        json.loads(_BODY)

    found = {"json.loads of a small chat request": await _us(loads, times)}
    async with _limits(LimitsConfig()) as limits:
        for name, act in _acts(limits, Caller()).items():
            found[f"{name}, nothing limited"] = await _us(act, times)
    async with _limits(_LIMITED) as limits:
        for name, act in _acts(limits, _CALLER).items():
            found[f"{name}, in memory"] = await _us(act, times)
        standing = await limits.enter(_CALLER)

        async def told() -> None:
            headers(standing)

        found["headers"] = await _us(told, times)
    if url:
        async with _limits(_LIMITED, url) as limits:
            for name, act in _acts(limits, _CALLER).items():
                found[f"{name}, through Redis"] = await _us(act, max(1, times // 20))
    unit = next(iter(found.values()))
    return [Figure(name=name, us=us, ratio=us / unit) for name, us in found.items()]


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    rows = [f"| {each.name} | {each.us:.2f} | {each.ratio:.2f} |" for each in figures]
    return "\n".join(("| What | us | times json.loads |", "|---|--:|--:|", *rows))


def main() -> int:
    """Measure and print."""
    if is_installed():
        with running_redis() as server:
            figures = asyncio.run(measure(20_000, server.url))
    else:
        figures = asyncio.run(measure(20_000))
    print(report(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
