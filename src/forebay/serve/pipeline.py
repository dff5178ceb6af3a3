"""One request, from the door to its last token: the straight line."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

from forebay.core.clock import Clock
from forebay.core.errors import OUTCOMES, EngineError, Outcome, ServingError
from forebay.core.record import Hook, RequestRecord, Said, Timeline
from forebay.core.request import Admitted, Delta, Events, Finished, Request, Usage
from forebay.serve.allowance import Allowance, unlimited
from forebay.serve.deadline import Deadline, until
from forebay.serve.lanes import Lanes
from forebay.serve.lifecycle import Lifecycle
from forebay.serve.replay import Replay
from forebay.serve.screening import Screening, unscreened


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Admission, engine, record: in that order, for every request."""

    lifecycle: Lifecycle
    replay: Replay
    lanes: Lanes
    hooks: tuple[Hook, ...]
    now: Clock
    allowance: Allowance = field(default_factory=unlimited)
    screening: Screening = field(default_factory=unscreened)
    said_characters_max: int = 0
    """How much of an answer's text its record keeps; 0: none."""

    def complete(self, request: Request) -> Events:
        """Yield a completion's events: made, joined, or read again."""
        return self._told(request, self.replay.attach(request, self._generate))

    def reopen(self, request: Request) -> Events:
        """Yield the events of an answer that was begun before."""
        answer = self.replay.reopen(request.completion_id, request.tenant)
        return self._told(request, until(request.deadline, answer))

    async def _told(self, request: Request, answer: Events) -> Events:
        """Pass an answer on; however it ends, give all back and write one record."""
        timeline = Timeline(received=request.received)
        if request.visit is not None:
            request.visit.timeline = timeline
        if self.said_characters_max:
            timeline.said = Said(self.said_characters_max)
        outcome = Outcome.INTERNAL_ERROR  # our defect, until something better is known
        usage: Usage | None = None
        failure: ServingError | None = None
        try:
            with self.lifecycle.presence():
                async with aclosing(answer) as events:
                    async for event in events:
                        timeline.saw(event, self.now())
                        if isinstance(event, Finished):
                            usage = event.usage
                        yield event
            if usage is None:
                raise EngineError("The engine ended the stream without finishing it.")
            outcome = Outcome.OK
        except ServingError as error:
            outcome, failure = error.outcome, error
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = Outcome.CANCELLED
            raise
        finally:
            timeline.ended = self.now()
            record = RequestRecord(
                id=request.id,
                route=request.route,
                model=request.model,
                outcome=outcome,
                status=failure.status if failure else OUTCOMES[outcome].status,
                timeline=timeline,
                request=request,
                usage=usage,
                error=failure.message if failure else None,
                via=request.via,
                caller=request.caller,
                visit=request.visit,
            )
            for hook in self.hooks:
                hook(record)
            failure = None  # it holds this frame, which holds it: the collector's work otherwise

    async def _generate(self, request: Request) -> Events:
        """Make the tokens: once, however many clients read them."""
        visit, lanes = request.visit, self.lanes
        if visit is not None:
            visit.making = self.now()
        request = await self.screening.admitted(request)
        if visit is not None:
            visit.screened = self.now()
        lane = lanes.get(request.model)
        if lane is None:
            if visit is not None:
                visit.asleep, visit.awake = self.now(), None
            lane = await lanes.awake(request.model, request.deadline)
            if visit is not None:
                visit.awake = self.now()
        async with (
            self.allowance.of(request) as spending,
            lane.admission.admit(request) as ticket,
        ):
            yield Admitted(ticket.ttft_forecast_s)
            with Deadline(request.deadline) as deadline:
                async with aclosing(
                    self.screening.watched(request, lane.engine.generate(request))
                ) as events:
                    async for event in events:
                        spending.saw(event)
                        if isinstance(event, Finished):
                            ticket.finished = event  # told once the place is given back
                        else:
                            if ticket.unread and isinstance(event, Delta):
                                lane.admission.began(ticket)
                            deadline.pause()
                            yield event
                            deadline.resume()
        if ticket.finished is not None:
            yield ticket.finished
