"""A gateway over an engine that plays what a test tells it."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from forebay.core.caller import Caller
from forebay.core.clock import MONOTONIC, Clock
from forebay.core.record import RequestRecord
from forebay.core.request import (
    Delta,
    Event,
    Events,
    Finished,
    FinishReason,
    Request,
    Scheduled,
    Usage,
)
from forebay.engine.protocol import EngineInfo, Feature
from forebay.gateway.access import Access
from forebay.gateway.admin import Admin, AdminConfig
from forebay.gateway.config import GatewayConfig
from forebay.gateway.edge import Gateway
from forebay.gateway.routing import Endpoint
from forebay.serve.admission import AdmissionConfig
from forebay.serve.clerks import Clerks
from forebay.serve.credentials import AccessConfig, Credentials
from forebay.serve.lanes import Lanes, open_lane
from forebay.serve.ledger import Ledger
from forebay.serve.lifecycle import Lifecycle, State
from forebay.serve.limits import Limits
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from tests.support.asgi import Exchange, ask
from tests.support.engines import Unworked

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


class ActingEngine(Unworked):
    """Plays acts: an event is yielded, an exception raised, a function called and awaited."""

    def __init__(self, acts: Sequence[object], supports: frozenset[Feature]) -> None:
        self.info = EngineInfo(
            name="acting",
            context_tokens_max=1_000,
            running_max=4,
            supports=supports,
            vocabulary_size=500,
        )
        self.acts = acts
        self.asked: list[Request] = []
        self.held = 0
        self.closed = 0

    async def start(self) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Nothing to give back."""

    def progress(self) -> int:
        return 0

    async def generate(self, request: Request) -> Events:
        self.asked.append(request)
        self.held += 1
        try:
            for act in self.acts:
                if isinstance(act, Exception):
                    raise act
                if isinstance(act, Event):
                    yield act
                else:
                    assert callable(act), "an act is an event, an exception or a function"
                    await act()
        finally:
            self.held -= 1
            self.closed += 1


def said(*texts: str, prompt_tokens: int = 5) -> list[object]:
    """Return the acts of an answer that is given in these pieces."""
    last = len(texts) - 1
    return [
        Scheduled(prompt_tokens),
        *(
            Delta(text, finish_reason=FinishReason.STOP if index == last else None)
            for index, text in enumerate(texts)
        ),
        Finished(Usage(prompt_tokens, len(texts))),
    ]


async def hang() -> None:
    """Wait until the request is closed."""
    await asyncio.Event().wait()


@dataclass(kw_only=True)
class Stage:
    """A gateway with everything behind it, and what came of each request."""

    gateway: Gateway
    ledger: Ledger
    engine: ActingEngine
    lifecycle: Lifecycle
    records: list[RequestRecord]
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def chat(self, text: str = "hello", **fields: Any) -> Exchange:
        """Ask for a chat completion; `messages` and all else may be replaced."""
        return await ask(self.gateway, "POST", CHAT, chat(text, **fields))

    async def chat_raw(self, fields: bytes) -> Exchange:
        """Ask for a chat completion with more fields, written as they are."""
        body = json.dumps(chat()).encode()[:-1] + b"," + fields + b"}"
        return await ask(self.gateway, "POST", CHAT, body)

    async def text(self, prompt: Any = "hello", **fields: Any) -> Exchange:
        """Ask for a completion."""
        return await ask(self.gateway, "POST", TEXT, {"model": "m", "prompt": prompt} | fields)

    async def get(self, path: str, **headers: str) -> Exchange:
        """Read a page."""
        return await ask(self.gateway, "GET", path, **headers)

    @property
    def record(self) -> RequestRecord:
        """The one record that was written."""
        assert len(self.records) == 1, f"{len(self.records)} records were written"
        return self.records[0]


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """Return the body of a chat request of one user turn."""
    return {"model": "m", "messages": [{"role": "user", "content": text}]} | fields


class NoMetrics:
    """Exposes one line."""

    def pieces(self, accept: str) -> tuple[str, Iterator[bytes]]:
        return "text/plain; version=0.0.4", iter((b"# accept ", f"{accept}\n".encode()))


def keys(known: Mapping[str, Caller]) -> Credentials:
    """Return credentials by which these are let in: the closed mode."""
    config, clerks = AccessConfig(mode="closed"), Clerks(threads=1, asked_max=8)
    return Credentials(known.get, config, clerks=clerks, now=MONOTONIC, wall=time.time)


def a_stage(
    acts: Sequence[object] | None = None,
    *,
    supports: frozenset[Feature] = frozenset(Feature),
    config: GatewayConfig | None = None,
    admission: AdmissionConfig | None = None,
    state: State = State.READY,
    now: Clock = MONOTONIC,
    model: str = "m",
    admin: AdminConfig | None = None,
    local: bool = False,
    credentials: Credentials | None = None,
    limits: Limits | None = None,
    extra: Mapping[str, Endpoint] = MappingProxyType({}),
) -> Stage:
    """Set up a gateway that serves `model` by `acts`."""
    engine = ActingEngine(said("Hello", " world") if acts is None else acts, supports)
    lane = open_lane(
        model, engine, config=admission or AdmissionConfig(), created=1_700_000_000, now=now
    )
    lanes = Lanes([lane])
    lifecycle = Lifecycle(lambda: True, retry_after_s=2.0)
    lifecycle.move(state)
    records: list[RequestRecord] = []
    events: list[tuple[str, dict[str, Any]]] = []
    ledger = Ledger(now)
    hooks = (records.append, ledger)
    gateway = Gateway(
        pipeline=Pipeline(lifecycle=lifecycle, replay=Replay(), lanes=lanes, hooks=hooks, now=now),
        lanes=lanes,
        lifecycle=lifecycle,
        metrics=NoMetrics(),
        ledger=ledger,
        admin=Admin(ledger, now, config=admin),
        hooks=hooks,
        log=lambda event, /, **fields: events.append((event, fields)),
        now=now,
        config=config or GatewayConfig(),
        access=Access(local=local, credentials=credentials, limits=limits),
        extra=extra,
    )
    return Stage(
        gateway=gateway,
        ledger=ledger,
        engine=engine,
        lifecycle=lifecycle,
        records=records,
        events=events,
    )
