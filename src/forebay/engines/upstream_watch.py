"""Looks at one upstream all the time: whether it is there, and makes tokens again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from forebay.core.clock import Clock
from forebay.core.record import EventLog
from forebay.engines.upstream_config import UpstreamConfig
from forebay.engines.upstream_fault import Fault, Reason
from forebay.engines.upstream_http import Connection
from forebay.engines.upstream_pool import Upstream

_BODY_BYTES_MAX: Final = 1_048_576
_BEATS: Final = ("/health", "/v1/models")
"""What is asked: the first of them that is known there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Who helps a watcher, and who hears of what it finds."""

    token: Callable[[Upstream], Awaitable[None]]
    """Makes one token there; raises Fault."""
    changed: Callable[[], None]
    """It may be asked again, or no longer."""
    log: EventLog


class Watcher:
    """Looks at one upstream.  Mutable state: which path answers, and what was told to the log."""

    def __init__(
        self,
        upstream: Upstream,
        config: UpstreamConfig,
        *,
        told: Told,
        now: Clock,
    ) -> None:
        """Look at this one, and tell what is found."""
        self._upstream = upstream
        self._config = config
        self._token = told.token
        self._changed = told.changed
        self._log = told.log
        self._now = now
        self._beats: tuple[str, ...] = _BEATS

    async def watch(self) -> None:
        """Look for ever."""
        upstream, breaker = self._upstream, self._upstream.breaker
        while True:
            if breaker.closed:
                await asyncio.sleep(self._config.probe_s)
            else:
                await asyncio.sleep(max(0.0, breaker.probe_in_s(self._now())))
            if breaker.closed:
                was_well = upstream.well
                await self.beat()
                if upstream.well and not was_well:
                    self._changed()
            elif breaker.probe(self._now()):
                away_since = breaker.opened
                breaker.probed(self._now(), answered=await self._answers())
                if breaker.closed and away_since is not None:
                    away_s = round(self._now() - away_since, 3)
                    self._log("upstream.back", upstream=upstream.name, away_s=away_s)
                    self._changed()

    async def beat(self) -> None:
        """Ask how it is; who does not say is not well, and has failed."""
        try:
            await self.asked(self._beats[0])
        except Fault as fault:
            if fault.reason is Reason.NOT_FOUND and len(self._beats) > 1:
                self._beats = self._beats[1:]
                await self.beat()
                return
            self._upstream.well = False
            self.failed(fault)
        else:
            self._upstream.well = True

    def failed(self, fault: Fault) -> None:
        """Count a failure, of a beat or of a request."""
        if self._upstream.breaker.failed(self._now()):
            self._upstream.well = False
            self._log(
                "upstream.away",
                level="warning",
                upstream=self._upstream.name,
                reason=fault.reason.value,
                said=fault.detail[:200],
            )
            self._changed()

    async def _answers(self) -> bool:
        """Whether it says that it is well, and makes a token."""
        await self.beat()
        if not self._upstream.well:
            return False
        try:
            await self._token(self._upstream)
        except Fault:
            self._upstream.well = False
        return self._upstream.well

    async def asked(self, path: str) -> bytes:
        """Return what it answers to a GET; raises Fault."""
        upstream = self._upstream
        try:
            async with asyncio.timeout(self._config.probe_s_max):
                connection = await upstream.connect()
                try:
                    return await _got(connection, upstream.get(path))
                finally:
                    connection.abort()
        except TimeoutError:
            raise Fault(Reason.SILENT, f"GET {path} in {self._config.probe_s_max:g} s") from None


async def _got(connection: Connection, data: bytes) -> bytes:
    connection.ask(data)
    head = await connection.head()
    if head.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        raise Fault(Reason.NOT_FOUND)
    if head.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Fault(Reason.KEY_REFUSED, f"status {head.status}")
    if not HTTPStatus.OK <= head.status < HTTPStatus.MULTIPLE_CHOICES:
        raise Fault(Reason.FAILED, f"status {head.status}")
    body = bytearray()
    while piece := await connection.read():
        body += piece
        if len(body) > _BODY_BYTES_MAX:
            raise Fault(Reason.TOO_LONG, f"over {_BODY_BYTES_MAX} bytes")
    return bytes(body)
