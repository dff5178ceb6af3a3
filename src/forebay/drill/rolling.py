"""Drill: replicas are restarted one after another under load, behind nginx, and nobody notices."""

import contextlib
import json
import random
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from forebay.bench.client import Target
from forebay.bench.workload import NUMBER, Wave
from forebay.drill.findings import DrillFailed, Findings, at_least, exactly
from forebay.drill.generator import Made, Plan, generating, percentiles_ms
from forebay.drill.nginx import balancing, noted
from forebay.drill.server import Server, Serving, started
from forebay.drill.stage import Drill, Stage

REPLICAS: Final = 3
REQUESTS_MIN: Final = 10_000
_PER_S: Final = {"short streams": 60.0, "whole": 55.0, "long streams": 5.0}
_TOKENS: Final = {"short streams": 10, "whole": 10, "long streams": 200}
_SETTINGS: Final = ("scripted.decode_s=0.01", "server.drain_s_max=20")
_MARGIN: Final = 1.03
"""Arrivals are random: so many more are planned, that there are enough."""
_PORTS: Final = (20_000, 30_000)
_STOP_S_MAX: Final = 40.0
_NOT_READY_S_MAX: Final = 5.0


@dataclass(slots=True, kw_only=True)
class Replica:
    """One of the servers: how it is started, and the process that serves now."""

    wish: Serving
    server: Server


@dataclass(slots=True, kw_only=True)
class Restarts:
    """What the restarts took.  Seconds from SIGTERM, but for `ready_s`: from the new start."""

    not_ready_s: list[float] = field(default_factory=list)
    stopped_s: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


def restart(replica: Replica, found: Restarts) -> None:
    """Ask a replica to stop, let it finish what runs, start it anew, wait until it is ready.

    This is the whole procedure of a rolling restart, one replica at a time.
    """
    process, asked = replica.server.process, time.monotonic()
    process.terminate()
    not_ready_s = replica.server.until_not_ready(_NOT_READY_S_MAX)
    if not_ready_s is not None:
        found.not_ready_s.append(not_ready_s)
    try:
        status = process.wait(_STOP_S_MAX)
    except subprocess.TimeoutExpired:
        raise DrillFailed("a replica did not stop in time") from None
    found.statuses[status] += 1
    found.stopped_s.append(time.monotonic() - asked)
    replica.server = started(replica.wish)
    found.ready_s.append(replica.server.until_ready())


def run(stage: Stage) -> Findings:
    """Restart replicas as long as the load lasts, and count whom it hurt."""
    required = REQUESTS_MIN // 10 if stage.quick else REQUESTS_MIN
    found = Restarts()
    with _replicas(stage) as replicas:
        ports = [replica.server.target.port for replica in replicas]
        with balancing(ports, stage.folder) as target:
            plan = _plan(target, required)
            began = time.monotonic()
            with generating(plan) as generator:
                while (passed_s := time.monotonic() - began) < plan.seconds:
                    turn = sum(found.statuses.values())
                    stage.say(f"restarting replicas: {turn}", passed_s, plan.seconds)
                    restart(replicas[turn % len(replicas)], found)
                made = generator.made()
    return _findings(made, found, required, nginx=noted(stage.folder))


@contextlib.contextmanager
def _replicas(stage: Stage) -> Iterator[list[Replica]]:
    stage.say(f"starting {REPLICAS} replicas")
    wishes = [stage.wish(*_SETTINGS, port=_lasting_port()) for _ in range(REPLICAS)]
    replicas = [Replica(wish=wish, server=started(wish)) for wish in wishes]
    try:
        for replica in replicas:
            replica.server.until_ready()
        yield replicas
    finally:
        for replica in replicas:
            replica.server.stop()


def _lasting_port() -> int:
    """Return a free port that stays free while nobody listens.

    Those that the kernel hands out may be taken by a connection between stop and start.
    """
    while True:
        port = random.randrange(*_PORTS)  # noqa: S311 - any will do
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def _plan(target: Target, requests: int) -> Plan:
    seconds = requests * _MARGIN / sum(_PER_S.values())
    waves = tuple(
        Wave(
            name=name,
            body=_body(tokens=_TOKENS[name], stream=name != "whole"),
            stream=name != "whole",
            seconds=seconds,
            per_s=per_s,
        )
        for name, per_s in _PER_S.items()
    )
    return Plan(target=target, waves=waves)


def _body(*, tokens: int, stream: bool) -> str:
    message = {"role": "user", "content": f"request {NUMBER} counts to ten and on"}
    wish = {"max_tokens": tokens, "ignore_eos": True, "stream": stream}
    return json.dumps({"model": "scripted", "messages": [message]} | wish)


def _findings(made: Made, found: Restarts, required: int, *, nginx: dict[str, int]) -> Findings:
    bad = [sample for sample in made.samples if not sample.ok]
    streams = [sample for sample in made.samples if sample.wave != "whole"]
    ways = Counter(f"{each.wave}: {each.status} {each.error}".strip() for each in bad)
    gates = (
        at_least("requests", len(made.samples), required),
        at_least("streams among them", len(streams), required // 3),
        at_least("replicas restarted", sum(found.statuses.values()), REPLICAS),
        exactly("requests that failed", len(bad), 0),
        exactly("replicas that ended with a status other than 0", _unclean(found), 0),
    )
    figures: dict[str, Any] = {
        "failures": dict(ways),
        "nginx_met": nginx,
        "not_ready_ms": percentiles_ms(found.not_ready_s),
        "stopped_ms": percentiles_ms(found.stopped_s),
        "ready_ms": percentiles_ms(found.ready_s),
        "latency_ms": {
            name: percentiles_ms([each.ended - each.due for each in made.of(name)])
            for name in _PER_S
        },
        "generator": made.cost(),
    }
    return Findings(gates=gates, figures=figures)


def _unclean(found: Restarts) -> int:
    return sum(count for status, count in found.statuses.items() if status)


ROLLING_RESTART: Final = Drill(
    name="rolling-restart",
    about="3 replicas behind nginx are restarted over and over under load: nobody notices",
    run=run,
)
