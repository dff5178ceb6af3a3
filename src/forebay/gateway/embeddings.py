"""`/v1/embeddings`: each input a request of its own, and one answer for all, or none.

Theory of operation
-------------------
A call is no request: its inputs are.  All are read before any begins.  Each is opened in the
ledger, goes through the pipeline, under an id that derives from the exchange's where there are
several, and ends in a record.  At most `batch_running_max` of them are at the door or beyond at
once.  The first that fails fails the call: no more begin, those under way are aborted, and the
client is told which it was.  However the call ends, each of its inputs has one record: those that
never began are recorded as cancelled.
"""

import asyncio
import struct
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
from msgspec import Raw

from forebay.core.caller import Caller
from forebay.core.clock import Clock
from forebay.core.errors import OUTCOMES, EngineError, Invalid, Outcome, ServingError
from forebay.core.record import Hook, RequestRecord, Timeline
from forebay.core.request import (
    NO_REUSE,
    Finished,
    Priority,
    Prompt,
    Request,
    RequestId,
    Route,
    Sampling,
)
from forebay.core.visit import part
from forebay.engine.protocol import Feature
from forebay.gateway.closing import Reading
from forebay.gateway.config import GatewayConfig
from forebay.gateway.embeddings_calls import Inputs, check
from forebay.gateway.embeddings_schemas import (
    Embedding,
    EmbeddingList,
    EmbeddingsCall,
    EmbeddingsUsage,
)
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.problems import JSON
from forebay.gateway.reading import Reader
from forebay.gateway.requesting import (
    Asked,
    AtOnce,
    Charge,
    Completes,
    Offer,
    Requests,
    answer_headers,
)
from forebay.gateway.server_timing import timing
from forebay.serve.lanes import Lane, Lanes
from forebay.serve.ledger import Ledger

_SAMPLING: Final = Sampling(embed=True, tokens_max=0)
_KEYED: Final = ("idempotency-key", "last-event-id")
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True, kw_only=True)
class _Work:
    """A call under way.  Mutable state: what has begun, the entries as they come, a failure."""

    base: Request
    prompts: list[tuple[str, Prompt]]
    packed: bool
    """Vectors are sent as base64."""
    waiting: Iterator[int]
    begun: set[int] = field(default_factory=set)
    entries: dict[int, bytes] = field(default_factory=dict)
    tokens: int = 0
    failure: ServingError | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def id_of(self, index: int) -> RequestId:
        """Return an input's own id."""
        several = len(self.prompts) > 1
        return RequestId(f"{self.base.id}-{index}") if several else self.base.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Serves `/v1/embeddings`."""

    pipeline: Completes
    lanes: Lanes
    requests: Requests
    ledger: Ledger
    hooks: tuple[Hook, ...]
    """Read the records of inputs that never began."""
    config: GatewayConfig
    now: Clock
    charge: Charge
    at_once: AtOnce
    _reader: Reader[EmbeddingsCall] = field(default_factory=lambda: Reader(EmbeddingsCall))

    async def embed(self, exchange: Exchange) -> None:
        """Answer `POST /v1/embeddings`."""
        call = self._reader.read(await exchange.body())
        lane = await self.requests.lane(exchange, call.model)
        offer = self.requests.offer(lane)
        self._check_able(lane, offer, exchange.caller)
        warnings = check(call, offer.info)
        prompts = Inputs(self.config, offer.info).prompts(call)
        if len(prompts) > 1:  # the call itself was counted
            await self.charge(exchange, len(prompts) - 1)
        base, ignored = self._base(exchange, offer, prompts=prompts)
        work = _Work(
            base=base,
            prompts=prompts,
            packed=call.encoding_format == "base64",
            waiting=iter(range(len(prompts))),
        )
        running_max = min(self.config.batch_running_max, offer.info.running_max)
        running_max = self.at_once(exchange.caller, running_max)
        headers = answer_headers(base, [*warnings, *ignored])
        await self._serve(exchange, work, running_max=running_max, headers=headers)

    def _check_able(self, lane: Lane, offer: Offer, caller: Caller) -> None:
        """Raise Invalid for a model that makes no embeddings; name those that do."""
        if Feature.EMBEDDINGS in offer.info.supports:
            return
        able = [one.name for one in self.lanes if _is_able(one) and caller.may_ask(one.name)]
        fix = (
            f"Ask {' or '.join(able)}."
            if able
            else "No model in memory here does; the engines transformers and upstream can."
        )
        engine = offer.info.name
        message = f"model: {lane.name} makes no embeddings, its engine {engine} cannot. {fix}"
        raise Invalid(message, param="model")

    def _base(
        self, exchange: Exchange, offer: Offer, *, prompts: list[tuple[str, Prompt]]
    ) -> tuple[Request, tuple[str, ...]]:
        """Return what all inputs have in common, and the headers that have no effect."""
        for name in _KEYED:
            if name.encode() in exchange.headers:
                message = f"{name}: no embedding is kept, and the same input has the same vector."
                raise Invalid(f"{message} Send the call again without it.", param=name)
        asked = Asked(
            route=Route.EMBEDDINGS, prefix="embd-", prompt=prompts[0][1], sampling=_SAMPLING
        )
        request, ignored = self.requests.request(exchange, asked, offer)
        request = replace(request, reuse=NO_REUSE)
        if len(prompts) == 1:
            return request, ignored
        if request.ticket is not None:  # it was promised to one request
            ignored += ("x-forebay-ticket",)
        # Others go first, unless the client says what class its inputs are of.
        said = b"x-priority" in exchange.headers
        priority = request.priority if said else Priority.BATCH
        # What a body tells of a prompt, it tells of one.
        return replace(request, priority=priority, ticket=None, body_bytes=0, body_sign=0), ignored

    async def _serve(
        self, exchange: Exchange, work: _Work, *, running_max: int, headers: tuple[Header, ...]
    ) -> None:
        """Answer; raises the error of the first input that failed, or ClientGone."""
        count = len(work.prompts)
        for index in range(count):
            self.ledger.opened(work.id_of(index))
        exchange.piped = True  # each input has its record; the exchange needs none
        if count > 1:
            exchange.visit.items, exchange.visit.tenant = count, exchange.caller.tenant
        try:
            with exchange.watching():
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(count, running_max)):
                        work.tasks.append(group.create_task(self._serve_inputs(work)))
                if work.failure is not None:
                    raise work.failure
                head = headers + timing(exchange, stream=False)
                await exchange.answer(200, _answer(work), JSON, headers=head)
        finally:
            for index in range(count):
                if index not in work.begun:
                    self._record_unbegun(work, index)
                self.ledger.closed(work.id_of(index))

    async def _serve_inputs(self, work: _Work) -> None:
        """Serve one input after another until none is left, or one has failed."""
        for index in work.waiting:
            work.begun.add(index)
            try:
                await self._serve_input(work, index)
            except ServingError as error:
                if work.failure is None:
                    work.failure = _named(error, work.prompts[index][0])
                for task in work.tasks:
                    if task is not asyncio.current_task():
                        task.cancel()
                return

    async def _serve_input(self, work: _Work, index: int) -> None:
        base, id = work.base, work.id_of(index)
        several = len(work.prompts) > 1
        received = self.now() if several else base.received
        request = replace(
            base,
            id=id,
            prompt=work.prompts[index][1],
            received=received,
            visit=part(base.visit, id, received) if several else base.visit,
            completion_id=f"{base.completion_id}-{index}",
        )
        events = self.pipeline.complete(request)
        finished: Finished | None = None
        async with Reading(events):
            async for event in events:
                if isinstance(event, Finished):
                    finished = event
        if finished is None or not finished.embedding:
            raise EngineError("The engine made no vector.")
        work.entries[index] = _entry(index, finished.embedding, packed=work.packed)
        work.tokens += finished.usage.prompt_tokens

    def _record_unbegun(self, work: _Work, index: int) -> None:
        """Write the record of an input that the pipeline never had."""
        id, received = work.id_of(index), work.base.received
        record = RequestRecord(
            id=id,
            route=Route.EMBEDDINGS,
            model=work.base.model,
            outcome=Outcome.CANCELLED,
            status=OUTCOMES[Outcome.CANCELLED].status,
            timeline=Timeline(received=received, ended=self.now()),
            via=work.base.via,
            caller=work.base.caller,
            visit=part(work.base.visit, id, received),
        )
        for hook in self.hooks:
            hook(record)


def _is_able(lane: Lane) -> bool:
    return Feature.EMBEDDINGS in lane.engine.info.supports


def _entry(index: int, vector: bytes, *, packed: bool) -> bytes:
    """Return a vector as JSON: at once, so that a large answer never keeps the loop for long."""
    if packed:
        return _encode(Embedding(index=index, embedding=b64encode(vector).decode()))
    numbers = list(struct.unpack(f"<{len(vector) // 4}f", vector))
    return _encode(Embedding(index=index, embedding=numbers))


def _answer(work: _Work) -> bytes:
    usage = EmbeddingsUsage(prompt_tokens=work.tokens, total_tokens=work.tokens)
    data = [Raw(work.entries[index]) for index in range(len(work.entries))]
    return _encode(EmbeddingList(data=data, model=work.base.model, usage=usage))


def _named(error: ServingError, where: str) -> ServingError:
    """Let a refusal say which of the inputs it is about."""
    if not isinstance(error, Invalid) or error.param not in {"input", "prompt"}:
        return error
    said = error.message.removeprefix(f"{error.param}: ")
    return Invalid(f"{where}: {said}", param=where)
