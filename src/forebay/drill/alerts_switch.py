"""The dead man's switch: it always fires, and what counts is that its silence is heard.

Whoever takes its messages (here the drill) raises the alarm once none has come for much longer
than usual.  So the fault is a Prometheus that stands still, and the alert "fires" when it is
missed.
"""

import asyncio
import itertools
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from forebay.drill.alerts_case import Case, Row
from forebay.drill.alerts_faults import done
from forebay.drill.alerts_machine import plan
from forebay.drill.alerts_scene import Scene
from forebay.drill.sinks import Channel

SWITCH: Final = "DeadMansSwitch"
_BEATS_LEAST: Final = 3
_SILENCE: Final = 2.5
"""So many times the longest gap between messages is silence."""
_NAP_S: Final = 0.1

SWITCH_CASE: Final = Case(
    name="Prometheus stands still",
    alerts=(SWITCH,),
    injected="Prometheus stopped (SIGSTOP): its heartbeat is missed",
    plan=plan(
        done(
            lambda scene: scene.prometheus.daemon.process.send_signal(signal.SIGSTOP),
            lambda scene: scene.prometheus.daemon.process.send_signal(signal.SIGCONT),
        )
    ),
)


async def watch_silence(scene: Scene, row: Row) -> None:
    """Stop Prometheus, wait until its heartbeat is missed, and let it go on."""
    await _until(lambda: len(_beats(scene)) > _BEATS_LEAST, SWITCH_CASE.fires_s_max)
    beats = _beats(scene)
    if len(beats) <= _BEATS_LEAST:
        return
    silence_s = _SILENCE * max(late - early for early, late in itertools.pairwise(beats))
    broken = time.monotonic()
    async with scene.plan.fault(scene):
        await _until(
            lambda: time.monotonic() - _beats(scene)[-1] > silence_s, SWITCH_CASE.fires_s_max
        )
        missed = time.monotonic()
    if missed - _beats(scene)[-1] <= silence_s:
        return
    row.fired_s = row.told_s[Channel.WEBHOOK] = missed - broken
    undone = time.monotonic()
    await _until(lambda: _beats(scene)[-1] > undone, SWITCH_CASE.clears_s_max)
    if (back := _beats(scene)[-1]) > undone:
        row.cleared_s = row.over_s[Channel.WEBHOOK] = back - undone


def _beats(scene: Scene) -> Sequence[float]:
    return [
        notice.at
        for notice in scene.sinks.notices
        if notice.channel is Channel.WEBHOOK and notice.firing and SWITCH in notice.text
    ]


async def _until(true: Callable[[], bool], wait_s_max: float) -> None:
    limit = time.monotonic() + wait_s_max
    while time.monotonic() < limit:
        if true():
            return
        await asyncio.sleep(_NAP_S)
