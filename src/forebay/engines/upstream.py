"""Any OpenAI-compatible server behind our gateway: vLLM, SGLang, TGI, llama-server, Ollama, us.

Theory of operation
-------------------
It runs in the gateway's process, over HTTP, so it is an Engine and no StepEngine.  A request is
*asked* of one upstream at a time (`upstream_call.py`), which `upstream_group.py` chooses.

An upstream that fails before anything of its answer was passed on costs the client nothing but
time: another is asked, within the retry budget.  Afterwards the request ends with EngineError:
another upstream would begin another text.

Closing the iterator closes the connection, and that is how an upstream knows that nobody reads.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import EngineError, Invalid, Overloaded, ServingError
from forebay.core.record import EventLog, Holding
from forebay.core.request import Chat, Delta, Events, Request
from forebay.engine.first_token import first_request
from forebay.engine.protocol import CannotLoad, EngineInfo, StepStats
from forebay.engine.registry import RemoteKind
from forebay.engines import upstream_embedding
from forebay.engines.upstream_call import Asked, Call
from forebay.engines.upstream_config import UpstreamConfig
from forebay.engines.upstream_dialect import CHAT_PATH, TEXT_PATH, Speaker, beginning_of
from forebay.engines.upstream_fault import Fault, Reason
from forebay.engines.upstream_group import Group
from forebay.engines.upstream_models import Known, learned
from forebay.engines.upstream_pool import Upstream
from forebay.policy.retry_budget import RetryBudget, jitter_s

_JITTER_S_MIN, _JITTER_S_MAX = 0.01, 0.5
_LOOK_S_MAX: Final = 1.0
_START_AGAIN_S: Final = 0.5

_NOT_RUNNING: Final = "The engine is not running."
_STOPPED: Final = "The engine was stopped before the answer was complete."
_SAID: Final = {
    Reason.UNREACHABLE: "The upstream cannot be reached.",
    Reason.STALE: "The upstream closed the connection.",
    Reason.CLOSED: "The upstream closed the connection before its answer was complete.",
    Reason.SILENT: "The upstream fell silent.",
    Reason.NOT_HTTP: "The upstream did not answer in HTTP.",
    Reason.UNASKED: "The upstream sent what nobody had asked for.",
    Reason.TOO_LONG: "The upstream's answer is longer than this server takes.",
    Reason.REDIRECT: "The upstream sent the request elsewhere, and no redirect is followed.",
    Reason.KEY_REFUSED: "The upstream does not take this server's key.",
    Reason.NOT_FOUND: "The upstream does not serve the model that this server asks it for.",
    Reason.FAILED: "The upstream failed.",
    Reason.BUSY: "The upstream takes no more requests for now.",
    Reason.WRONG_TYPE: "The upstream's answer is not of the type that was asked for.",
    Reason.NOT_JSON: "The upstream's answer cannot be read.",
    Reason.NONSENSE: "The upstream's answer does not fit the request.",
    Reason.CUT: "The upstream ended its answer before it was complete.",
}
"""What clients are told; the details are in the log."""


class UpstreamEngine:
    """An Engine over other people's servers."""

    def __init__(
        self,
        config: UpstreamConfig,
        *,
        now: Clock,
        log: EventLog,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """Know where they are; raises CannotLoad.  `dice` gives shares in [0, 1)."""
        self._config = config
        self._now = now
        self._log = log
        self._dice = dice
        self._group = Group(config, token=self._one_token, dice=dice, now=now, log=log)
        self._mark_bytes = config.affinity_bytes if len(self._group.upstreams) > 1 else 0
        # The whole mutable state.
        self._info: EngineInfo | None = None
        self._speaker: Speaker | None = None
        self._budget = RetryBudget(
            share_max=config.retry_share_max,
            per_s_min=config.retries_per_s_min,
            # Whatever one upstream's end takes with it may be asked of another.
            reserve=float(max(config.connections_max, 100)),
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._calls: dict[Call, tuple[Request, float]] = {}
        """Requests under way, and since when."""
        self._tokens = 0
        self._reruns = 0
        self._why: Fault | None = None
        """What went wrong last at the start."""

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Each of them, for whoever asks how it is."""
        return self._group.upstreams

    @property
    def info(self) -> EngineInfo:
        """What they are and can do; known once started."""
        assert self._info is not None, "known once started"
        return self._info

    @property
    def restarts(self) -> Mapping[str, int]:
        """None: they are not ours to restart."""
        return {}

    @property
    def reruns(self) -> int:
        """Requests that went on to another upstream."""
        return self._reruns

    @property
    def poisoned(self) -> int:
        """None is known."""
        return 0

    def progress(self) -> int:
        """Tokens passed on since the start."""
        return self._tokens

    def well(self, now: float) -> bool:  # noqa: ARG002 - the protocol's; their breakers know
        """Whether any of them is worth asking, and said so itself."""
        return self._group.well

    def gauges(self) -> StepStats:
        """Return what we have with them; their own gauges are theirs."""
        running = sum([request.sampling.choices for request, _ in self._calls.values()])
        return StepStats(running, self._group.waiting, 0.0, self._tokens)

    async def load_adapter(self, name: str, folder: Path) -> None:  # noqa: ARG002 - the protocol's
        """Raise Invalid: their adapters are loaded there, and asked for by `upstream.model`."""
        message = f"The adapter {name} cannot be loaded from here: load it on the servers."
        raise Invalid(message, param="model")

    def unload_adapter(self, name: str) -> None:
        """None was loaded."""

    def memory_bytes(self) -> int:
        """Return 0: what the servers take is not this machine's."""
        return 0

    def holdings(self) -> Iterator[Holding]:
        """Yield what they hold for whom, as far as we know."""
        for request, since in tuple(self._calls.values()):
            yield Holding(
                kind="engine_request",
                owner=request.id,
                tenant=request.tenant,
                amount=request.sampling.choices,
                since=since,
                expires=request.deadline,
            )

    async def start(self) -> None:
        """Learn from one of them what it serves, and let it make a token; raises EngineError."""
        started = False
        try:
            async with asyncio.timeout(self._config.start_s_max):
                await self._begin()
            started = True
        except TimeoutError:
            why = f" ({self._why})" if self._why else ""
            message = f"No upstream has answered in upstream.start_s_max{why}."
            raise EngineError(message) from None
        finally:
            if not started:
                await self.stop()

    async def stop(self) -> None:
        """End what runs, and close every connection."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        self._group.stop()
        for call in tuple(self._calls):
            call.fail(Fault(Reason.CLOSED))
        if tasks:
            await asyncio.wait(tasks)

    async def generate(self, request: Request) -> Events:
        """Answer a request; closing the iterator closes the connection that it has."""
        if self._speaker is None or self._group.stopped:
            raise EngineError(_NOT_RUNNING)
        self._budget.asked()
        asked = self._asked(request)
        mark = beginning_of(request.prompt, self._mark_bytes) if self._mark_bytes else None
        tried: list[int] = []
        while True:
            index = self._group.take(tried, mark)
            if index is None:
                index = await self._group.turn(tried, mark)
            call, begun = self._begun(index, asked), False
            try:
                async with aclosing(call.events()) as events:
                    async for event in events:
                        begun = True
                        if type(event) is Delta:  # not isinstance: the path of every chunk
                            self._tokens += event.tokens
                        yield event
                self._group.upstreams[index].breaker.succeeded()
            except Fault as fault:
                tried.append(index)
                self._noted(fault, index, begun=begun)
                if begun or not self._may_retry(tried):
                    raise self._error(fault) from None
            else:
                return
            finally:
                del self._calls[call]
                self._group.leave(index)
            await self._pause(len(tried))

    def _begun(self, index: int, asked: Asked) -> Call:
        call = Call(asked, self._group.upstreams[index], self._config, now=self._now)
        self._calls[call] = (asked.request, self._now())
        return call

    def _asked(self, request: Request) -> Asked:
        assert self._speaker is not None
        if request.sampling.embed:
            body = upstream_embedding.body_of(self._speaker.model, request.prompt)
            return Asked(request=request, path=upstream_embedding.PATH, body=body, chat=False)
        is_chat = isinstance(request.prompt, Chat)
        path = CHAT_PATH if is_chat else TEXT_PATH
        body = self._speaker.body(request)
        return Asked(request=request, path=path, body=body, chat=is_chat)

    def _noted(self, fault: Fault, index: int, *, begun: bool) -> None:
        if self._group.stopped:
            return
        self._group.failed(index, fault)
        self._log(
            "upstream.fault",
            level="warning",
            upstream=self._group.upstreams[index].name,
            reason=fault.reason.value,
            said=fault.detail[:200],
            begun=begun,
        )

    def _may_retry(self, tried: list[int]) -> bool:
        """Whether another upstream may be asked; then one is owed to the budget."""
        may = (
            not self._group.stopped
            and len(tried) <= self._config.retries_max
            and self._group.has_others(tried)
            and self._budget.take(self._now())
        )
        self._reruns += may
        return may

    def _error(self, fault: Fault) -> ServingError:
        if self._group.stopped:
            return EngineError(_STOPPED)
        if fault.reason is Reason.BUSY:
            return Overloaded(_SAID[fault.reason], retry_after_s=fault.retry_after_s)
        return EngineError(_SAID[fault.reason])

    async def _pause(self, tries: int) -> None:
        share = self._dice()
        wait_s = jitter_s(tries, share, wait_s_min=_JITTER_S_MIN, wait_s_max=_JITTER_S_MAX)
        await asyncio.sleep(wait_s)

    # The start, and who looks at them afterwards.

    async def _begin(self) -> None:
        known = await self._first_known()
        self._speaker = Speaker(known.dialect, known.model)
        self._info = info = known.info(len(self._group.upstreams))
        await asyncio.gather(*(watcher.beat() for watcher in self._group.watchers))
        self._tasks = [asyncio.create_task(watcher.watch()) for watcher in self._group.watchers]
        self._tasks.append(asyncio.create_task(self._look()))
        request = first_request(info, self._now(), self._config.start_s_max)
        async with aclosing(self.generate(request)) as events:
            async for _ in events:
                pass

    async def _first_known(self) -> Known:
        """Ask all what they serve until one says it; raises EngineError for what no wait mends."""
        while True:
            for watcher in self._group.watchers:
                try:
                    return learned(self._config, await watcher.asked("/v1/models"))
                except CannotLoad as error:
                    raise EngineError(str(error)) from None
                except Fault as fault:
                    self._why = fault
                    if fault.reason is Reason.KEY_REFUSED:
                        message = "An upstream does not take the key: set upstream.api_key."
                        raise EngineError(message) from None
            await asyncio.sleep(_START_AGAIN_S)

    async def _one_token(self, upstream: Upstream) -> None:
        """Make one token at one upstream; raises Fault."""
        request = first_request(self.info, self._now(), self._config.start_s_max)
        call = Call(self._asked(request), upstream, self._config, now=self._now)
        try:
            async with asyncio.timeout(self._config.silence_s_max):
                async with aclosing(call.events()) as events:
                    async for _ in events:
                        pass
        except TimeoutError:
            raise Fault(Reason.SILENT, "one token") from None
        except ServingError:
            pass  # it answers, though not as wished: its limits are not ours

    async def _look(self) -> None:
        """End streams that have fallen silent, and close what is idle."""
        look_s = min(_LOOK_S_MAX, self._config.silence_s_max / 2, self._config.idle_s / 2)
        while True:
            await asyncio.sleep(look_s)
            now = self._now()
            for call in tuple(self._calls):
                call.look(now)
            for upstream in self._group.upstreams:
                upstream.sweep()


def connect(config: UpstreamConfig, /, *, now: Clock, log: EventLog) -> UpstreamEngine:
    """Return an engine that is not started; raises EngineError with the fix."""
    try:
        return UpstreamEngine(config, now=now, log=log)
    except CannotLoad as error:
        raise EngineError(str(error)) from None


KIND: Final = RemoteKind(name="upstream", config=UpstreamConfig, connect=connect)
