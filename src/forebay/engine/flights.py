"""Requests between a supervisor and its present worker: who has them, and what they have sent.

A *flight* is a request with a wire id and an outbox.  Whoever boards it takes its events out;
frames from the worker fill its outbox.  No clock and no socket: messages to the worker go
through `send`, the moment is an argument.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from forebay.core.errors import DeadlineExceeded, EngineError, Invalid, Outcome, ServingError
from forebay.core.record import Holding
from forebay.core.request import Delta, EngineTiming, Finished, Request, TokenId, Usage
from forebay.engine.outbox import Outbox
from forebay.engine.protocol import WorkerLost
from forebay.engine.wire import Abort, Down, Fault, Freed, Step, Submit, pack_prompt, pack_sampling
from forebay.policy.quarantine import Passenger

Send = Callable[[Down], None]

LOST: Final = "The engine was lost while it answered."

_FREEING_MAX: Final = 65_536
"""Aborts that the worker has not acknowledged; more are not measured."""


class FreedHook(Protocol):
    """Told when an aborted request holds nothing any more.  Must not raise or block."""

    def __call__(self, wait_s: float, phase: str, *, tokens: int) -> None:
        """Take the time since the abort, `prefill` or `decode`, and tokens made in vain.

        In `prefill` these are the prompt's, afterwards the answer's.
        """


class Watcher(Protocol):
    """Follows what is made of one request, whether or not its reader takes it."""

    def kept(self, choice: int, token_ids: Sequence[TokenId]) -> None:
        """Note tokens of which nothing is handed out yet."""

    def made(self, tokens: int) -> None:
        """Note that so many tokens were handed out."""


class Crew(Protocol):
    """Who decides what becomes of requests when workers come and go."""

    def changed(self) -> None:
        """Note that a worker takes requests and has made a token, or has stopped for good."""

    def lost(self, aboard: Sequence[Passenger]) -> None:
        """Judge those who were aboard; they are told when this returns."""

    def freed(self, wait_s: float, phase: str, *, tokens: int) -> None:
        """Note that nothing of an aborted request is held any more; see `FreedHook`."""


@dataclass(slots=True, eq=False)
class Flight:
    """One request under way with a worker."""

    id: int
    request: Request
    outbox: Outbox
    passenger: Passenger | None
    since: float
    watch: Watcher | None = None


class Flights:
    """The requests of one worker after another.

    Mutable state: the flights, the aborts under way, the present worker, the last id.
    """

    def __init__(self, *, pending_deltas_max: int, freed: FreedHook | None = None) -> None:
        """Start with no worker: what comes is lost at once."""
        self._pending_deltas_max = pending_deltas_max
        self._freed = freed
        self._flights: dict[int, Flight] = {}
        self._freeing: dict[int, tuple[Request, float]] = {}
        self._send: Send | None = None
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._flights)

    def add(
        self,
        request: Request,
        now: float,
        *,
        passenger: Passenger | None = None,
        watch: Watcher | None = None,
    ) -> Flight:
        """Hand a request to the worker; raises WorkerLost if there is none."""
        if self._send is None:
            raise WorkerLost(LOST)
        self._last_id += 1
        outbox = Outbox(self._pending_deltas_max * request.sampling.choices)
        flight = Flight(self._last_id, request, outbox, passenger, now, watch)
        self._flights[flight.id] = flight
        self._send(
            Submit(
                flight.id,
                pack_prompt(request.prompt),
                pack_sampling(request.sampling),
                request.stream,
                request.deadline - now,
                request.made,
            )
        )
        return flight

    def forget(self, flight: Flight, now: float) -> None:
        """Let go of a request whose reader has gone; the worker is told if it still has it."""
        if self._flights.pop(flight.id, None) is None or self._send is None:
            return
        if len(self._freeing) < _FREEING_MAX:
            self._freeing[flight.id] = (flight.request, now)
        self._send(Abort(flight.id))

    def holdings(self) -> Iterator[Holding]:
        """Yield what the worker holds for whom, what is being given back included."""
        for flight in tuple(self._flights.values()):
            yield _holding(flight.request, flight.since)
        for request, since in tuple(self._freeing.values()):
            yield _holding(request, since)

    def worker_ready(self, send: Send) -> None:
        """Take requests from now on."""
        self._send = send

    def worker_lost(self) -> list[Passenger]:
        """Take none any more; return who was aboard.  They are not told yet: see `fail_all`."""
        self._send = None
        self._freeing.clear()
        return [
            flight.passenger for flight in self._flights.values() if flight.passenger is not None
        ]

    def fail_all(self, error: EngineError) -> None:
        """End everything."""
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            flight.outbox.fail(error)

    def step(self, step: Step) -> None:
        """Put what one step of the worker made into the outboxes; nobody's news are dropped."""
        flights = self._flights
        for taken in step.taken:
            if (flight := flights.get(taken.id)) is not None:
                flight.outbox.schedule(taken.prompt_tokens)
        for piece in step.pieces:
            if (flight := flights.get(piece.id)) is not None:
                delta = Delta(
                    piece.text,
                    piece.tokens,
                    piece.choice,
                    piece.finish_reason,
                    piece.logprobs,
                    False,  # noqa: FBT003 - positional: this is the path of every chunk
                    piece.token_ids,
                )
                flight.outbox.put(delta)
                if flight.watch is not None:
                    flight.watch.made(len(piece.token_ids))
        for kept in step.kept:
            if (flight := flights.get(kept.id)) is not None and flight.watch is not None:
                flight.watch.kept(kept.choice, kept.token_ids)
        for end in step.ends:
            if (flight := flights.pop(end.id, None)) is not None:
                usage = Usage(end.prompt_tokens, end.completion_tokens)
                timing = EngineTiming(first_token_s=end.first_token_s, decode_s=end.decode_s)
                flight.outbox.finish(Finished(usage, timing, end.embedding))

    def fault(self, fault: Fault) -> None:
        """End one request with what the worker says of it."""
        flight = self._flights.pop(fault.id, None) if fault.id is not None else None
        if flight is not None:
            flight.outbox.fail(_error(fault))

    def freed(self, freed: Freed, now: float) -> None:
        """Note that the worker holds nothing of an aborted request any more."""
        aborted = self._freeing.pop(freed.id, None)
        if aborted is None or self._freed is None:
            return
        made = freed.tokens_made
        phase = "decode" if made else "prefill"
        self._freed(now - aborted[1], phase, tokens=made or freed.prompt_tokens)


def _holding(request: Request, since: float) -> Holding:
    return Holding(
        kind="engine_request",
        owner=request.id,
        tenant=request.tenant,
        amount=request.sampling.choices,
        since=since,
        expires=request.deadline,
    )


def _error(fault: Fault) -> ServingError:
    """Return a worker's fault as the exception that names its outcome."""
    match fault.outcome:
        case Outcome.INVALID:
            return Invalid(fault.message, param=fault.param)
        case Outcome.TIMED_OUT:
            return DeadlineExceeded(fault.message)
        case _:
            return EngineError(fault.message)
