"""The upstreams together: which of them gets a request, and who has to wait for one.

Among those that are able (their breaker is closed, they have room) a well one is taken that was
not tried for this request, by the beginning of its prompt and by load (`policy/affinity.py`).
When all that may be asked are full, a request waits its turn; when none may be asked, it ends.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import EngineError
from forebay.core.record import EventLog
from forebay.engine.protocol import CannotLoad
from forebay.engines.upstream_config import UpstreamConfig, addresses_of
from forebay.engines.upstream_fault import Fault, Reason
from forebay.engines.upstream_pool import Upstream
from forebay.engines.upstream_watch import Told, Watcher
from forebay.policy.affinity import Affinity

_RETRY_S_MIN: Final = 0.1
_STOPPED: Final = "The engine is not running."
_NOBODY: Final = "No upstream answers. Try again after the time in Retry-After."


class Group:
    """All upstreams.  Mutable state: who waits, and whether it has come to an end."""

    def __init__(
        self,
        config: UpstreamConfig,
        *,
        token: Callable[[Upstream], Awaitable[None]],
        dice: Callable[[], float],
        now: Clock,
        log: EventLog,
    ) -> None:
        """Know where they are; raises CannotLoad.  `token` makes one token at one of them."""
        found = addresses_of(config)
        trust = _trust(config) if any(address.secure for address in found) else None
        self.upstreams: Final = tuple(
            Upstream(address, config, trust=trust if address.secure else None, now=now)
            for address in found
        )
        told = Told(token=token, changed=self.wake_all, log=log)
        self.watchers: Final = tuple(
            Watcher(upstream, config, told=told, now=now) for upstream in self.upstreams
        )
        for upstream, watcher in zip(self.upstreams, self.watchers, strict=True):
            upstream.lied = watcher.failed
        self._affinity = Affinity(
            [upstream.name for upstream in self.upstreams],
            busier_ratio_max=config.busier_ratio_max,
            busier_max=config.busier_max,
        )
        self._dice = dice
        self._now = now
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.stopped = False

    @property
    def well(self) -> bool:
        """Whether any of them is worth asking, and said so itself."""
        return any(upstream.breaker.closed and upstream.well for upstream in self.upstreams)

    @property
    def waiting(self) -> int:
        """Requests that wait for an upstream."""
        return len(self._waiting)

    def has_others(self, tried: Sequence[int]) -> bool:
        """Whether any may be asked that was not tried."""
        return any(
            upstream.breaker.closed
            for index, upstream in enumerate(self.upstreams)
            if index not in tried
        )

    def failed(self, index: int, fault: Fault) -> None:
        """Count a failure of one; being busy, or closing what was idle, is none."""
        if fault.reason is not Reason.BUSY:
            self.watchers[index].failed(fault)

    def stop(self) -> None:
        """Close what is idle; who waits hears of it."""
        self.stopped = True
        self.wake_all()
        for upstream in self.upstreams:
            upstream.close()

    def take(self, tried: Sequence[int], mark: int | None) -> int | None:
        """Give a request to one at once; None if it has to wait."""
        if self._waiting:
            return None
        index = self._choose(tried, mark)
        if index is not None:
            self.upstreams[index].load += 1
        return index

    async def turn(self, tried: Sequence[int], mark: int | None) -> int:
        """Give a request to one as soon as that can be; raises EngineError if none answers."""
        while True:
            if self.stopped:
                raise EngineError(_STOPPED)
            if not self.has_others(()):
                rest_s = min(u.breaker.probe_in_s(self._now()) for u in self.upstreams)
                raise EngineError(_NOBODY, status=503, retry_after_s=max(rest_s, _RETRY_S_MIN))
            index = self._choose(tried, mark)
            if index is not None:
                self.upstreams[index].load += 1
                return index
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._wake()  # it was this one's turn, and is the next one's now
                raise

    def leave(self, index: int) -> None:
        """Take a request back from one; another may have its place."""
        self.upstreams[index].load -= 1
        self._wake()

    def _choose(self, tried: Sequence[int], mark: int | None) -> int | None:
        upstreams = self.upstreams
        if len(upstreams) == 1:
            return 0 if upstreams[0].able else None
        able = [index for index, upstream in enumerate(upstreams) if upstream.able]
        if tried:
            able = [index for index in able if index not in tried] or able
        able = [index for index in able if upstreams[index].well] or able
        if not able:
            return None
        loads = [upstream.load for upstream in upstreams]
        return self._affinity.choose(able, loads, mark, share=self._dice())

    def _wake(self) -> None:
        """Let one who waits look again."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def wake_all(self) -> None:
        """Let all who wait look again."""
        for _ in range(len(self._waiting)):
            self._wake()


def _trust(config: UpstreamConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.ca_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise CannotLoad(f"upstream.ca_file cannot be read: {error}.") from None
