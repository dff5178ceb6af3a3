"""Requests and the workers that come and go under them."""

import asyncio

import pytest

from forebay.core.errors import DeadlineExceeded, EngineError, Invalid, Outcome, ServingError
from forebay.core.request import Delta, EngineTiming, Finished, Scheduled, Usage
from forebay.engine.flights import Flight, Flights
from forebay.engine.wire import Abort, Down, End, Fault, Piece, Step, Submit, Taken
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
    return Flights(pending_deltas_max=8, resubmits_max=1)


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
    flights.worker_ready(line, 0.0)
    flights.add(a_request(deadline=90.0, stream=True), 30.0)
    [submit] = line.sent
    assert isinstance(submit, Submit)
    assert (submit.time_left_s, submit.stream) == (60.0, True)
    assert flights.busy


def test_a_request_that_finds_no_worker_waits_for_one(flights: Flights) -> None:
    flight = flights.add(a_request(), 0.0)
    assert not flights.busy
    line = Line()
    flights.worker_ready(line, 1.0)
    assert line.submitted == [flight.id]


async def test_frames_become_events(flights: Flights) -> None:
    flights.worker_ready(Line(), 0.0)
    flight = flights.add(a_request(), 0.0)
    end = End(flight.id, 3, 1, 0.1, 0.0)
    flights.step(a_step(Piece(flight.id, "a"), ends=(end,), taken=(Taken(flight.id, 3),)))
    events = [await flight.outbox.take() for _ in range(3)]
    assert events[0] == Scheduled(3)
    assert isinstance(events[1], Delta)
    assert events[2] == Finished(Usage(3, 1), EngineTiming(first_token_s=0.1, decode_s=0.0))
    assert len(flights) == 0


def test_news_of_nobody_are_dropped(flights: Flights) -> None:
    flights.worker_ready(Line(), 0.0)
    flights.step(a_step(Piece(9, "a"), ends=(End(9, 1, 1, None, None),), taken=(Taken(9, 1),)))
    flights.fault(Fault(9, Outcome.INVALID, "no"))
    flights.fault(Fault(None, Outcome.ENGINE_ERROR, "lost"))
    assert len(flights) == 0


def test_forgetting_a_request_aborts_it_once(flights: Flights) -> None:
    line = Line()
    flights.worker_ready(line, 0.0)
    flight = flights.add(a_request(), 0.0)
    flights.forget(flight)
    flights.forget(flight)
    assert line.sent[1:] == [Abort(flight.id)]
    assert not flights.busy


def test_forgetting_what_has_ended_or_was_never_handed_over_tells_nobody(flights: Flights) -> None:
    waiting = flights.add(a_request(), 0.0)
    flights.forget(waiting)
    line = Line()
    flights.worker_ready(line, 0.0)
    flight = flights.add(a_request(), 0.0)
    flights.step(a_step(ends=(End(flight.id, 1, 1, None, None),)))
    flights.forget(flight)
    assert [type(message) for message in line.sent] == [Submit]


def test_what_sent_nothing_is_run_again_once_and_then_ends_with_an_error(flights: Flights) -> None:
    flight = flights.add(a_request(), 0.0)
    for _ in range(2):
        line = Line()
        flights.worker_ready(line, 0.0)
        assert line.submitted == [flight.id]
        flights.worker_lost()
    assert isinstance(failure_of(flight), EngineError)
    assert len(flights) == 0


async def test_what_sent_something_ends_with_an_error(flights: Flights) -> None:
    flights.worker_ready(Line(), 0.0)
    flight = flights.add(a_request(), 0.0)
    flights.step(a_step(Piece(flight.id, "a")))
    await flight.outbox.take()
    flights.worker_lost()
    with pytest.raises(EngineError):
        await flight.outbox.take()


async def test_what_was_made_but_not_taken_is_made_again(flights: Flights) -> None:
    flights.worker_ready(Line(), 0.0)
    flight = flights.add(a_request(), 0.0)
    flights.step(a_step(Piece(flight.id, "old"), taken=(Taken(flight.id, 3),)))
    flights.worker_lost()
    flights.worker_ready(Line(), 1.0)
    flights.step(a_step(Piece(flight.id, "new"), taken=(Taken(flight.id, 3),)))
    assert await flight.outbox.take() == Scheduled(3)
    assert await flight.outbox.take() == Delta("new")


def test_waiting_costs_no_run(flights: Flights) -> None:
    flight = flights.add(a_request(), 0.0)
    for _ in range(5):
        flights.worker_lost()
    line = Line()
    flights.worker_ready(line, 0.0)
    assert line.submitted == [flight.id]


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
    flights.worker_ready(Line(), 0.0)
    flight = flights.add(a_request(), 0.0)
    flights.fault(Fault(flight.id, outcome, "why", "prompt"))
    error = failure_of(flight)
    assert type(error) is kind
    assert error.message == "why"
    assert len(flights) == 0


def test_everything_can_be_ended_at_once(flights: Flights) -> None:
    both = [flights.add(a_request(), 0.0) for _ in range(2)]
    flights.fail_all("stopped")
    assert {failure_of(flight).message for flight in both} == {"stopped"}
    assert len(flights) == 0
