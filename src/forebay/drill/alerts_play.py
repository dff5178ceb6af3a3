"""One case from its beginning to its end: all well, broken, told, undone, over."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from forebay.drill.alerts_case import Case, Outcome, Row
from forebay.drill.alerts_scene import Scene, opened
from forebay.drill.alerts_switch import SWITCH, watch_silence
from forebay.drill.findings import DrillFailed, Skipped
from forebay.drill.prometheus import State
from forebay.drill.sinks import Channel
from forebay.monitoring.alert import Alert
from forebay.monitoring.alerts import ALERTS

_NAP_S: Final = 0.1
_BY_NAME: Final[dict[str, Alert]] = {alert.name: alert for alert in ALERTS}


class Play:
    """A case that is being played.  Mutable state: what was seen of its alerts, and when."""

    def __init__(self, case: Case, scene: Scene) -> None:
        """Begin with all well."""
        self._case = case
        self._scene = scene
        self._broken = 0.0
        self._undone = 0.0
        self._unmuted: set[str] = set()
        self._channels: dict[str, frozenset[Channel]] = {}
        self.rows = [_row(case, name) for name in case.alerts]

    async def run(self) -> Outcome:
        """Play it; what never came is None in the rows."""
        case, scene = self._case, self._scene
        for row in self.rows:
            labels = {"alertname": row.alert, "severity": row.severity}
            labels["area"] = _BY_NAME[row.alert].area.value
            self._channels[row.alert] = await asyncio.to_thread(scene.alertmanager.channels, labels)
        if case.alerts == (SWITCH,):
            await watch_silence(scene, self.rows[0])
            return self._outcome()
        await asyncio.sleep(scene.plan.before_s)
        self._broken = time.monotonic()
        async with scene.plan.fault(scene):
            await self._until(self._all_told, case.fires_s_max)
        self._undone = time.monotonic()
        await self._until(self._all_over, case.clears_s_max)
        return self._outcome()

    async def _until(self, done: Callable[[], bool], wait_s_max: float) -> None:
        limit = time.monotonic() + wait_s_max
        while time.monotonic() < limit:
            self._look()
            if done():
                return
            await asyncio.sleep(_NAP_S)

    def _look(self) -> None:
        """Bring the rows up to date."""
        watch, sinks, broken = self._scene.watch, self._scene.sinks, self._broken
        for row in self.rows:
            row.pending_s = _since(watch.first(row.alert, State.PENDING, after=broken), broken)
            row.fired_s = _since(watch.first(row.alert, State.FIRING, after=broken), broken)
            if row.pending_s is None:
                row.pending_s = row.fired_s
            for channel in self._channels[row.alert]:
                notice = sinks.first(row.alert, channel, firing=True, after=broken)
                row.told_s[channel] = _since(notice.at if notice else None, broken)
            if self._undone:
                self._look_for_the_end(row)
        self._look_at_the_muted()

    def _look_for_the_end(self, row: Row) -> None:
        watch, sinks, undone = self._scene.watch, self._scene.sinks, self._undone
        if row.alert in watch.now:
            return
        row.cleared_s = _since(watch.last(row.alert, State.CLEARED, after=undone), undone)
        for channel in self._channels[row.alert]:
            notice = sinks.first(row.alert, channel, firing=False, after=undone)
            row.over_s[channel] = _since(notice.at if notice else None, undone)

    def _look_at_the_muted(self) -> None:
        if self._undone or not self._case.muted:
            return
        for alert in self._case.muted:
            for channel in Channel:
                if self._scene.sinks.first(alert, channel, firing=True, after=self._broken):
                    self._unmuted.add(alert)

    def _all_told(self) -> bool:
        fired = self._scene.watch.fired(since=self._broken)
        return all(row.all_told_s is not None for row in self.rows) and self._case.muted <= fired

    def _all_over(self) -> bool:
        return all(row.all_over_s is not None for row in self.rows)

    def _outcome(self) -> Outcome:
        case, watch = self._case, self._scene.watch
        expected = {*case.alerts, *case.companions, *case.muted, SWITCH}
        fired = watch.fired(since=self._broken)
        unmuted = self._unmuted | (case.muted - fired)
        return Outcome(
            case=case,
            rows=tuple(self.rows),
            before=tuple(sorted(watch.fired(until=self._broken) - {SWITCH})),
            strangers={name: _BY_NAME[name].severity for name in sorted(fired - expected)},
            companions=(case.companions & fired) - {*case.alerts, *case.muted},
            unmuted=tuple(sorted(unmuted)),
            callers=dict(self._scene.callers.statuses),
        )


def _row(case: Case, name: str) -> Row:
    severity = _BY_NAME[name].severity
    return Row(
        alert=name, severity=severity, case=case.name, injected=case.injected, speed=case.speed
    )


def _since(at: float | None, began: float) -> float | None:
    return None if at is None else at - began


async def play(case: Case, *, rules: str, config: str, folder: Path) -> Outcome:
    """Play a case in a scene of its own; whatever goes wrong is in the outcome."""
    rows = tuple(_row(case, name) for name in case.alerts)
    try:
        async with contextlib.AsyncExitStack() as stack:
            temporary = tempfile.TemporaryDirectory(prefix=f"{case.alerts[0]}-", dir=folder)
            place = Path(stack.enter_context(temporary))
            plan = await asyncio.to_thread(stack.enter_context, case.plan(place))
            scene = Scene(place, plan, speed=case.speed)
            await stack.enter_async_context(opened(scene, rules=rules, config=config))
            return await Play(case, scene).run()
    except Skipped as reason:
        return Outcome(case=case, rows=rows, skipped=str(reason))
    except DrillFailed as reason:
        return Outcome(case=case, rows=rows, failed=str(reason))
