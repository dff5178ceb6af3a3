"""Many prompts in one call: each a request of its own, and one answer for all.

Theory of operation
-------------------
An exchange with a batch is no request: its prompts are.  Each is opened in the ledger, goes
through the pipeline under an id that derives from the exchange's, and ends in a record.  At most
`batch_running_max` of them are at the door or beyond at once; the others wait here, so that a large
batch takes no more of the queue than a small one.  An item's time begins when it goes to the door,
its deadline is the batch's.  What fails, fails alone: its entry holds the error.

However the batch ends, each of its items has one record: those that never began are recorded as
cancelled.
"""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
from msgspec import Raw

from forebay.core.clock import Clock
from forebay.core.errors import OUTCOMES, Invalid, Outcome, ServingError
from forebay.core.record import Hook, RequestRecord, Timeline
from forebay.core.request import Begun, Delta, Finished, Priority, Request, RequestId, Usage
from forebay.core.visit import part
from forebay.gateway.closing import Reading
from forebay.gateway.encoding import Gathered
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.native_answers import (
    BatchAnswer,
    BatchFailure,
    BatchMetrics,
    BatchResult,
)
from forebay.gateway.native_calls import Translator, text_of
from forebay.gateway.native_encoding import Stopwatch, per_second
from forebay.gateway.problems import JSON, problem
from forebay.gateway.requesting import Completes
from forebay.gateway.server_timing import timing
from forebay.serve.ledger import Ledger

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is asked of a batch: everything but the prompts is the same for all."""

    base: Request
    prompts: list[Raw]
    chat: bool
    translator: Translator
    running_max: int
    headers: tuple[Header, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Work:
    """A batch under way.  Mutable state: what has begun, and the entries as they come."""

    batch: Batch
    waiting: Iterator[int]
    begun: set[int] = field(default_factory=set)
    entries: dict[int, bytes] = field(default_factory=dict)
    tokens: int = 0
    failed: int = 0


class Batches:
    """Serves calls that hold several prompts."""

    def __init__(
        self, pipeline: Completes, ledger: Ledger, hooks: tuple[Hook, ...], *, now: Clock
    ) -> None:
        """Send items through `pipeline`; `hooks` read the records of those that never began."""
        self._pipeline = pipeline
        self._ledger = ledger
        self._hooks = hooks
        self._now = now

    async def serve(self, exchange: Exchange, batch: Batch) -> None:
        """Answer every prompt, in order; raises ClientGone."""
        count = len(batch.prompts)
        work = _Work(batch=batch, waiting=iter(range(count)))
        for index in range(count):
            self._ledger.opened(_id(batch, index))
        exchange.piped = True  # each item has its record; the exchange needs none
        exchange.visit.items, exchange.visit.tenant = count, exchange.caller.tenant
        try:
            with exchange.watching():
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(count, batch.running_max)):
                        group.create_task(self._serve_items(work))
                body = self._answer(work, exchange.received)
                head = batch.headers + timing(exchange, stream=False)
                await exchange.answer(200, body, JSON, headers=head)
        finally:
            for index in range(count):
                if index not in work.begun:
                    self._record(batch, index, outcome=Outcome.CANCELLED)
                self._ledger.closed(_id(batch, index))

    async def _serve_items(self, work: _Work) -> None:
        """Serve one item after another until none is left."""
        for index in work.waiting:
            work.begun.add(index)
            try:
                request = self._request(work.batch, index)
            except Invalid as error:
                self._record(work.batch, index, outcome=error.outcome, error=error)
                self._fail(work, index, error)
                continue
            try:
                await self._serve_item(work, index, request)
            except ServingError as error:
                self._fail(work, index, error)

    def _request(self, batch: Batch, index: int) -> Request:
        """Make an item's request; raises Invalid for a prompt that is none."""
        base, param = batch.base, f"prompts[{index}]"
        text = text_of(batch.prompts[index], index)
        id, received = _id(batch, index), self._now()
        return replace(
            base,
            id=id,
            prompt=batch.translator.prompt(text, chat=batch.chat, param=param),
            received=received,
            visit=part(base.visit, id, received),
            completion_id=f"{base.completion_id}-{index}",
            key=None if base.key is None else f"{base.key}#{index}",
        )

    async def _serve_item(self, work: _Work, index: int, request: Request) -> None:
        stopwatch, gathered, usage = Stopwatch(request, self._now), Gathered(), Usage(0, 0)
        events, name = stopwatch.timing(self._pipeline.complete(request)), request.completion_id
        async with Reading(events):
            async for event in events:
                if isinstance(event, Delta):
                    gathered.add(event)
                elif isinstance(event, Finished):
                    usage = event.usage
                elif isinstance(event, Begun):
                    name = event.completion_id
        tokens = usage.completion_tokens
        result = BatchResult(
            index=index,
            id=name,
            text="".join(gathered.texts),
            finish_reason=gathered.finish_reason.value,
            metrics=stopwatch.metrics(tokens, prompt_tokens=usage.prompt_tokens),
        )
        work.entries[index] = _encode(result)
        work.tokens += tokens

    def _fail(self, work: _Work, index: int, error: ServingError) -> None:
        failure = BatchFailure(index=index, error=problem(error, _id(work.batch, index)))
        work.entries[index] = _encode(failure)
        work.failed += 1

    def _answer(self, work: _Work, received: float) -> bytes:
        seconds, count = self._now() - received, len(work.entries)
        answer = BatchAnswer(
            id=work.batch.base.completion_id,
            model=work.batch.base.model,
            results=[Raw(work.entries[index]) for index in range(count)],
            metrics=BatchMetrics(
                total_time=round(seconds, 6),
                tokens_generated=work.tokens,
                tokens_per_second=per_second(work.tokens, seconds),
                succeeded=count - work.failed,
                failed=work.failed,
            ),
        )
        return _encode(answer)

    def _record(
        self, batch: Batch, index: int, *, outcome: Outcome, error: ServingError | None = None
    ) -> None:
        """Write the record of an item that the pipeline never had."""
        now, id, received = self._now(), _id(batch, index), batch.base.received
        visit = part(batch.base.visit, id, received)
        if error is not None and visit is not None:
            visit.understood = None
        record = RequestRecord(
            id=id,
            route=batch.base.route,
            model=batch.base.model,
            outcome=outcome,
            status=OUTCOMES[outcome].status if error is None else error.status,
            timeline=Timeline(received=received, ended=now),
            error=None if error is None else error.message,
            caller=batch.base.caller,
            visit=visit,
        )
        for hook in self._hooks:
            hook(record)


def base_of(request: Request, prompts: list[Raw], *, priority: Priority) -> Request:
    """Return what all items of a batch have in common."""
    # A key stands for the whole batch: under the same one, another batch's items are conflicts.
    digest = hashlib.sha256(b"\n".join(map(bytes, prompts))).hexdigest()
    # What is promised is promised to one; what a body tells of a prompt, it tells of one.
    return replace(
        request,
        shape=f"batch {len(prompts)} {digest}",
        priority=priority,
        ticket=None,
        body_bytes=0,
        body_sign=0,
    )


def _id(batch: Batch, index: int) -> RequestId:
    return RequestId(f"{batch.base.id}-{index}")
