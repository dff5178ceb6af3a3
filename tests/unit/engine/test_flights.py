"""Requests and the workers that come and go under them."""

import asyncio
from collections.abc import Sequence

import pytest

from forebay.core.errors import DeadlineExceeded, EngineError, Invalid, Outcome, ServingError
from forebay.core.request import Delta, EngineTiming, Finished, Made, Scheduled, Usage
from forebay.engine.flights import Flight, Flights
from forebay.engine.protocol import WorkerLost
from forebay.engine.wire import Abort, Down, End, Fault, Freed, Kept, Piece, Step, Submit, Taken
from forebay.policy.quarantine import Passenger
from tests.support.requests import a_request


class Line:
    """Keeps what is sent to a worker."""

    def __init__(self) -> None:
        self.sent: list[Down] = []

    def __call__(self, message: Down) -> None:
        self.sent.append(message)

    @property
    def submitted(self) -> list[int]:
        return [message.id for message in self.sent if isinstance(message, Submit)]


@pytest.fixture
def flights() -> Flights:
    return Flights(pending_deltas_max=8)


def a_step(*pieces: Piece, ends: tuple[End, ...] = (), taken: tuple[Taken, ...] = ()) -> Step:
    return Step(taken, pieces, ends, 1)


def failure_of(flight: Flight) -> ServingError:
    taking = flight.outbox.take()
    with pytest.raises(ServingError) as caught:
        asyncio.run(taking)
    return caught.value


def test_a_request_goes_to_the_worker_that_is_there_with_the_time_it_has_left(
    flights: Flights,
) -> None:
    line = Line()
    flights.worker_ready(line)
    flights.add(a_request(deadline=90.0, stream=True), 30.0)
    [submit] = line.sent
    assert isinstance(submit, Submit)
    assert (submit.time_left_s, submit.stream) == (60.0, True)


def test_a_request_that_finds_no_worker_is_lost_at_once(flights: Flights) -> None:
    with pytest.raises(WorkerLost):
        flights.add(a_request(), 0.0)
    flights.worker_ready(Line())
    flights.worker_lost()
    with pytest.raises(WorkerLost):
        flights.add(a_request(), 0.0)
    assert len(flights) == 0


def test_what_was_made_before_goes_to_the_worker(flights: Flights) -> None:
    line, made = Line(), (Made(token_ids=(7,), characters=1, tokens=1),)
    flights.worker_ready(line)
    flights.add(a_request(made=made), 0.0)
    [submit] = line.sent
    assert isinstance(submit, Submit)
    assert submit.made == made


async def test_frames_become_events(flights: Flights) -> None:
    flights.worker_ready(Line())
    flight = flights.add(a_request(), 0.0)
    end = End(flight.id, 3, 1, 0.1, 0.0)
    flights.step(a_step(Piece(flight.id, "a"), ends=(end,), taken=(Taken(flight.id, 3),)))
    events = [await flight.outbox.take() for _ in range(3)]
    assert events[0] == Scheduled(3)
    assert isinstance(events[1], Delta)
    assert events[2] == Finished(Usage(3, 1), EngineTiming(first_token_s=0.1, decode_s=0.0))
    assert len(flights) == 0


def test_news_of_nobody_are_dropped(flights: Flights) -> None:
    flights.worker_ready(Line())
    flights.step(a_step(Piece(9, "a"), ends=(End(9, 1, 1, None, None),), taken=(Taken(9, 1),)))
    flights.fault(Fault(9, Outcome.INVALID, "no"))
    flights.fault(Fault(None, Outcome.ENGINE_ERROR, "lost"))
    assert len(flights) == 0


def test_forgetting_a_request_aborts_it_once(flights: Flights) -> None:
    line = Line()
    flights.worker_ready(line)
    flight = flights.add(a_request(), 0.0)
    flights.forget(flight, 1.0)
    flights.forget(flight, 1.0)
    assert line.sent[1:] == [Abort(flight.id)]


def test_forgetting_what_has_ended_tells_nobody(flights: Flights) -> None:
    line = Line()
    flights.worker_ready(line)
    flight = flights.add(a_request(), 0.0)
    flights.step(a_step(ends=(End(flight.id, 1, 1, None, None),)))
    flights.forget(flight, 1.0)
    assert [type(message) for message in line.sent] == [Submit]


async def test_what_a_lost_worker_had_sent_is_taken_first_and_then_the_loss(
    flights: Flights,
) -> None:
    flights.worker_ready(Line())
    flight = flights.add(a_request(), 0.0)
    flights.step(a_step(Piece(flight.id, "a", token_ids=(5,))))
    flights.worker_lost()
    flights.fail_all(WorkerLost("lost"))
    assert await flight.outbox.take() == Delta("a", token_ids=(5,))
    with pytest.raises(WorkerLost):
        await flight.outbox.take()


def test_a_loss_names_who_was_aboard_and_nobody_else(flights: Flights) -> None:
    flights.worker_ready(Line())
    passengers = [Passenger() for _ in range(4)]
    ended, gone, failed, aboard = [
        flights.add(a_request(), 0.0, passenger=passenger) for passenger in passengers
    ]
    flights.add(a_request(), 0.0)
    flights.step(a_step(ends=(End(ended.id, 1, 1, None, None),)))
    flights.forget(gone, 1.0)
    flights.fault(Fault(failed.id, Outcome.INVALID, "no"))
    assert flights.worker_lost() == [aboard.passenger]


class Notes:
    """A Watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def kept(self, choice: int, token_ids: Sequence[int]) -> None:
        self.told.append((choice, tuple(token_ids)))

    def made(self, tokens: int) -> None:
        self.told.append(tokens)


def test_whoever_watches_hears_of_each_token_before_the_reader_takes_it(flights: Flights) -> None:
    notes = Notes()
    flights.worker_ready(Line())
    flight, other = flights.add(a_request(), 0.0, watch=notes), flights.add(a_request(), 0.0)
    step = a_step(Piece(flight.id, "a", token_ids=(5, 6)), Piece(other.id, "b", token_ids=(7,)))
    step.kept = [Kept(flight.id, 1, (8,)), Kept(other.id, 0, (9,)), Kept(77, 0, (1,))]
    flights.step(step)
    assert notes.told == [2, (1, (8,))]


def test_an_aborted_request_is_held_until_the_worker_says_that_it_is_not() -> None:
    freed: list[tuple[float, str, int]] = []

    def note(wait_s: float, phase: str, *, tokens: int) -> None:
        freed.append((wait_s, phase, tokens))

    flights = Flights(pending_deltas_max=8, freed=note)
    flights.worker_ready(Line())
    first, second = [flights.add(a_request(choices=2), 1.0) for _ in range(2)]
    assert [(held.kind, held.amount, held.since) for held in flights.holdings()] == [
        ("engine_request", 2, 1.0)
    ] * 2
    flights.forget(first, 5.0)
    flights.forget(second, 5.0)
    assert [held.since for held in flights.holdings()] == [5.0, 5.0]
    flights.freed(Freed(first.id, 30, 0), 5.25)
    flights.freed(Freed(second.id, 30, 7), 5.5)
    flights.freed(Freed(second.id, 30, 7), 6.0)
    assert freed == [(0.25, "prefill", 30), (0.5, "decode", 7)]
    assert list(flights.holdings()) == []


def test_with_a_lost_worker_nothing_is_held_by_it(flights: Flights) -> None:
    flights.worker_ready(Line())
    flights.forget(flights.add(a_request(), 0.0), 1.0)
    flights.worker_lost()
    assert list(flights.holdings()) == []


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome.INVALID, Invalid),
        (Outcome.TIMED_OUT, DeadlineExceeded),
        (Outcome.ENGINE_ERROR, EngineError),
        (Outcome.CONFLICT, EngineError),
    ],
)
def test_a_fault_ends_its_request_with_its_outcome(
    flights: Flights, outcome: Outcome, kind: type[ServingError]
) -> None:
    flights.worker_ready(Line())
    flight = flights.add(a_request(), 0.0)
    flights.fault(Fault(flight.id, outcome, "why", "prompt"))
    error = failure_of(flight)
    assert type(error) is kind
    assert error.message == "why"
    assert len(flights) == 0


def test_everything_can_be_ended_at_once(flights: Flights) -> None:
    flights.worker_ready(Line())
    both = [flights.add(a_request(), 0.0) for _ in range(2)]
    flights.fail_all(EngineError("stopped"))
    assert {failure_of(flight).message for flight in both} == {"stopped"}
    assert len(flights) == 0
