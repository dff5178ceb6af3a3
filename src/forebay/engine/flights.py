"""Requests between `generate` and the present worker: who has them, and what they have sent.

A *flight* is a request with a wire id and an outbox.  Only its `generate` makes and forgets it;
frames from the worker fill its outbox.  No clock and no socket: messages to the worker go
through `send`, the moment is an argument.
"""

from collections.abc import Callable
from dataclasses import dataclass

from forebay.core.errors import DeadlineExceeded, EngineError, Invalid, Outcome, ServingError
from forebay.core.request import Delta, EngineTiming, Finished, Request, Usage
from forebay.engine.outbox import Outbox
from forebay.engine.wire import Abort, Down, Fault, Step, Submit, pack_prompt, pack_sampling

Send = Callable[[Down], None]

_LOST = "The engine was lost while it answered."


@dataclass(slots=True, eq=False)
class Flight:
    """One request under way."""

    id: int
    request: Request
    outbox: Outbox
    aboard: bool = False
    """The present worker has it."""
    runs: int = 0
    """How many workers have had it."""


class Flights:
    """All requests under way.  Mutable state: the flights, the present worker, the last id."""

    def __init__(self, *, pending_deltas_max: int, resubmits_max: int) -> None:
        """Start with no worker: what comes waits for one."""
        self._pending_deltas_max = pending_deltas_max
        self._resubmits_max = resubmits_max
        self._flights: dict[int, Flight] = {}
        self._send: Send | None = None
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def busy(self) -> bool:
        """Whether the present worker has anything to do."""
        return any(flight.aboard for flight in self._flights.values())

    def add(self, request: Request, now: float) -> Flight:
        """Take a request in, and hand it to the worker if there is one."""
        self._last_id += 1
        outbox = Outbox(self._pending_deltas_max * request.sampling.choices)
        flight = Flight(self._last_id, request, outbox)
        self._flights[flight.id] = flight
        self._hand_over(flight, now)
        return flight

    def forget(self, flight: Flight) -> None:
        """Let go of a request whose reader has gone; the worker is told if it still has it."""
        if self._flights.pop(flight.id, None) is not None and flight.aboard and self._send:
            self._send(Abort(flight.id))

    def worker_ready(self, send: Send, now: float) -> None:
        """Hand everything that waits to a new worker."""
        self._send = send
        for flight in tuple(self._flights.values()):
            self._hand_over(flight, now)

    def worker_lost(self) -> None:
        """End what the worker had and cannot be run again; the rest waits for the next one."""
        self._send = None
        for flight in tuple(self._flights.values()):
            if not flight.aboard:
                continue
            flight.aboard = False
            if flight.outbox.taken or flight.runs > self._resubmits_max:
                del self._flights[flight.id]
                flight.outbox.fail(EngineError(_LOST))
            else:
                flight.outbox.restart()

    def fail_all(self, message: str) -> None:
        """End everything with an EngineError."""
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            flight.outbox.fail(EngineError(message))

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
        for end in step.ends:
            if (flight := flights.pop(end.id, None)) is not None:
                usage = Usage(end.prompt_tokens, end.completion_tokens)
                timing = EngineTiming(first_token_s=end.first_token_s, decode_s=end.decode_s)
                flight.outbox.finish(Finished(usage, timing))

    def fault(self, fault: Fault) -> None:
        """End one request with what the worker says of it."""
        flight = self._flights.pop(fault.id, None) if fault.id is not None else None
        if flight is not None:
            flight.outbox.fail(_error(fault))

    def _hand_over(self, flight: Flight, now: float) -> None:
        if self._send is None:
            return
        flight.aboard = True
        flight.runs += 1
        request = flight.request
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


def _error(fault: Fault) -> ServingError:
    """Return a worker's fault as the exception that names its outcome."""
    match fault.outcome:
        case Outcome.INVALID:
            return Invalid(fault.message, param=fault.param)
        case Outcome.TIMED_OUT:
            return DeadlineExceeded(fault.message)
        case _:
            return EngineError(fault.message)
