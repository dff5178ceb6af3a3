"""Drill: the Redis that several gateways share is killed, hung, emptied and slow under load."""

import asyncio
from typing import Final

import uvloop

from forebay.bench.client import Target
from forebay.drill.absence import Absence, absent, failed
from forebay.drill.client import Seen, ask, chat
from forebay.drill.faults import Fault
from forebay.drill.findings import Findings, Gate, Skipped, exactly
from forebay.drill.redis_server import RedisServer, is_installed, running_redis
from forebay.drill.server import Server
from forebay.drill.slow_link import SlowLink, slow_link
from forebay.drill.stage import Drill, Stage
from forebay.drill.steady_load import Kind, SteadyLoad

KEYS: Final = 20
_SLOW_S: Final = 0.3
_SETTLED_S: Final = 1.0
"""After Redis is back, time for what is owed to be delivered."""
_TOKENS: Final = 8
_LONG_TOKENS: Final = 300
_PACE_S: Final = 0.01
_SETTINGS: Final = (
    *("scripted.prefill_s=0.002", "scripted.decode_s=0.001", "scripted.running_max=64"),
    "admission.waiting_max=1000",
)


def run(stage: Stage) -> Findings:
    """Share keys between two servers, then take their Redis away in four manners."""
    if not is_installed():
        raise Skipped("redis-server is not installed")
    with running_redis() as redis:
        return uvloop.run(_play(stage, redis))


async def _play(stage: Stage, redis: RedisServer) -> Findings:
    shared = (*_SETTINGS, f"store.url={redis.url}")
    with stage.serving(*shared) as one, stage.serving(*shared) as other:
        stage.say(f"{KEYS} keys at two servers at once")
        gates = await _one_generation(one, other)
        stage.say("Redis emptied")
        gates += await _emptied(stage, redis, one=one, other=other)
        absences = []
        for fault in (_killed(redis), _hung(redis)):
            stage.say(f"Redis {fault.name}")
            absences.append(await absent(stage, one, fault))
            gates.append(await _delivered(absences[-1], other.target))
    async with slow_link(redis.port) as link:
        with stage.serving(*_SETTINGS, f"store.url=redis://127.0.0.1:{link.port}/0") as third:
            stage.say("Redis slow")
            absences.append(await absent(stage, third, _slow(link)))
    for absence in absences:
        gates += absence.gates()
    return Findings(gates=tuple(gates), figures={each.fault: each.figures() for each in absences})


def _killed(redis: RedisServer) -> Fault:
    return Fault(name="killed (SIGKILL)", inject=redis.crash, undo=redis.start)


def _hung(redis: RedisServer) -> Fault:
    return Fault(name="hung (SIGSTOP)", inject=redis.hang, undo=redis.wake)


def _slow(link: SlowLink) -> Fault:
    def delay(seconds: float) -> None:
        link.delay_s = seconds

    name = f"slow ({_SLOW_S * 1000:.0f} ms)"
    return Fault(name=name, inject=lambda: delay(_SLOW_S), undo=lambda: delay(0.0))


def _wish(key: str, tokens: int = _TOKENS) -> tuple[bytes, dict[str, str]]:
    body = chat("scripted", f"the words of {key}", max_tokens=tokens, ignore_eos=True)
    return body, {"idempotency-key": key}


async def _one_generation(one: Server, other: Server) -> list[Gate]:
    """Send each key to both servers, twice, at the same moment."""
    wishes = [_wish(f"shared-{number}") for number in range(KEYS)]
    targets = (one.target, other.target) * 2
    asked = [asyncio.gather(*(ask(target, *wish) for target in targets)) for wish in wishes]
    answers: list[list[Seen]] = await asyncio.gather(*asked)
    alike = sum(len({each.body for each in seen}) == 1 for seen in answers)
    made = sum(server.metric("llm_generation_tokens_total") for server in (one, other))
    return [
        exactly("one key at two servers: answered", _good(answers), len(targets) * KEYS),
        exactly("one key at two servers: keys with one answer", alike, KEYS),
        exactly("one key at two servers: generations made", made / _TOKENS, KEYS),
    ]


def _good(answers: list[list[Seen]]) -> int:
    return sum(each.ok for seen in answers for each in seen)


async def _emptied(stage: Stage, redis: RedisServer, *, one: Server, other: Server) -> list[Gate]:
    """Empty Redis under load: before, while and after a key's answer is made."""
    load = SteadyLoad(one.target, pace_s=_PACE_S)
    loading = asyncio.create_task(load.run(2.0))
    before, across = _wish("before"), _wish("across", _LONG_TOKENS)
    first = await ask(one.target, *before)
    making = asyncio.create_task(ask(one.target, *across))
    await asyncio.sleep(0.1)
    running = not making.done()
    with stage.broken(Fault(name="emptied (FLUSHALL)", inject=redis.flush)):
        made = await making
    again = await ask(one.target, *before)
    elsewhere = await ask(other.target, *across)
    await loading
    await load.ended()
    return [
        exactly("Redis emptied: requests failed", len(failed(load.told)), 0),
        exactly("Redis emptied: a key is replayed where it was made", _same(first, again), 1),
        exactly("Redis emptied: a key was being made", running, 1),
        exactly("Redis emptied: and is replayed elsewhere", _same(made, elsewhere), 1),
    ]


def _same(one: Seen, two: Seen) -> int:
    return int(one.ok and two.ok and one.body == two.body)


async def _delivered(absence: Absence, target: Target) -> Gate:
    """Ask another server for keys that were answered during an absence."""
    await asyncio.sleep(_SETTLED_S)
    keyed = [each for each in absence.during if each.kind is Kind.KEYED and each.seen.ok]
    wanted = keyed[-KEYS:]
    again = [await ask(target, *each.wish) for each in wanted]
    same = sum(_same(each.seen, seen) for each, seen in zip(wanted, again, strict=True))
    what = f"Redis {absence.fault}: keys answered then that another server replays"
    return exactly(what, same, KEYS)


SHARED_STORE: Final = Drill(
    name="redis",
    about="the shared Redis killed, hung, emptied, slow: no errors, nothing added, back in 2 s",
    run=run,
)
