import pytest

from forebay.core.request import EngineTiming, Finished, Usage
from forebay.policy.limit import AimdLimit, FixedLimit, Sample, sample_of
from forebay.policy.ticket import Ticket
from tests.support.requests import a_request


def a_sample(
    admitted: float = 0.0,
    first_token_s: float = 0.1,
    tpot_s: float | None = 0.01,
    running: int = 10,
) -> Sample:
    return Sample(
        admitted=admitted,
        first_token_s=first_token_s,
        tpot_s=tpot_s,
        running=running,
    )


def a_limit(running_max: int = 10) -> AimdLimit:
    return AimdLimit(running_max, first_token_s=1.0, tpot_s=0.1)


def test_a_fixed_limit_learns_nothing() -> None:
    limit = FixedLimit(4)
    limit.sample(a_sample(first_token_s=100.0), 1.0)
    assert limit.current == 4


def test_a_first_token_beyond_its_target_takes_a_fifth_away() -> None:
    limit = a_limit()
    limit.sample(a_sample(first_token_s=2.0), 1.0)
    assert limit.current == 8


def test_a_token_beyond_its_target_takes_a_fifth_away() -> None:
    limit = a_limit()
    limit.sample(a_sample(tpot_s=0.2), 1.0)
    assert limit.current == 8


def test_those_let_in_before_a_decrease_are_not_heard() -> None:
    limit = a_limit()
    for _ in range(5):
        limit.sample(a_sample(admitted=0.5, tpot_s=0.2), 1.0)
    assert limit.current == 8
    limit.sample(a_sample(admitted=1.5, tpot_s=0.2), 2.0)
    assert limit.current == 6


def test_a_round_of_good_samples_adds_one_place() -> None:
    limit = a_limit()
    limit.sample(a_sample(tpot_s=0.2), 1.0)
    for _ in range(9):
        limit.sample(a_sample(admitted=2.0), 3.0)
    assert limit.current == 9


def test_it_never_grows_above_the_engines_batch() -> None:
    limit = a_limit()
    for _ in range(100):
        limit.sample(a_sample(), 1.0)
    assert limit.current == 10


def test_it_never_falls_below_one() -> None:
    limit = a_limit()
    for second in range(100):
        limit.sample(a_sample(admitted=float(second), tpot_s=1.0), float(second))
    assert limit.current == 1


def test_it_does_not_grow_while_it_is_not_used() -> None:
    limit = a_limit()
    limit.sample(a_sample(tpot_s=0.2), 1.0)
    for _ in range(50):
        limit.sample(a_sample(admitted=2.0, running=2), 3.0)
    assert limit.current == 8


def test_a_ticket_is_sampled_by_what_its_engine_measured() -> None:
    ticket = Ticket(a_request(choices=2), 0.0, 9.0)
    ticket.admitted = 3.0
    ticket.finished = Finished(Usage(5, 22), EngineTiming(first_token_s=0.2, decode_s=1.0))
    sample = sample_of(ticket, 4)
    assert sample is not None
    assert (sample.admitted, sample.first_token_s, sample.running) == (3.0, 0.2, 4)
    assert sample.tpot_s == pytest.approx(0.1)


def test_what_was_not_measured_is_no_sample() -> None:
    ticket = Ticket(a_request(), 0.0, 9.0)
    assert sample_of(ticket, 4) is None
    ticket.finished = Finished(Usage(5, 22))
    assert sample_of(ticket, 4) is None


def test_of_a_single_token_only_the_first_is_sampled() -> None:
    ticket = Ticket(a_request(), 0.0, 9.0)
    ticket.finished = Finished(Usage(5, 1), EngineTiming(first_token_s=0.2, decode_s=0.0))
    sample = sample_of(ticket, 4)
    assert sample is not None
    assert sample.tpot_s is None
