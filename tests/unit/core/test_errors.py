import pytest

from forebay.core import errors
from forebay.core.errors import OUTCOMES, Blame, Invalid, Objective, Outcome, Retry, ServingError


def test_every_outcome_has_its_row() -> None:
    assert set(OUTCOMES) == set(Outcome)


def test_codes_are_distinct() -> None:
    codes = [ending.code for ending in OUTCOMES.values()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("outcome", Outcome)
def test_who_is_to_blame_decides_the_class_of_the_status(outcome: Outcome) -> None:
    ending = OUTCOMES[outcome]
    first_digit = {Blame.NOBODY: 2, Blame.CALLER: 4, Blame.US: 5}[ending.blame]
    assert ending.status // 100 == first_digit


@pytest.mark.parametrize("outcome", Outcome)
def test_the_objective_counts_only_what_is_our_doing(outcome: Outcome) -> None:
    ending = OUTCOMES[outcome]
    if ending.objective is Objective.BAD:
        assert ending.blame is Blame.US


def test_only_statuses_that_clients_know_ask_for_a_retry() -> None:
    later = {Retry.LATER, Retry.ELSEWHERE}
    statuses = {ending.status for ending in OUTCOMES.values() if ending.retry in later}
    assert statuses == {429, 503}


def test_each_error_class_names_its_own_outcome() -> None:
    classes = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and ServingError in kind.__bases__
    ]
    outcomes = [vars(kind)["outcome"] for kind in classes]
    assert len(outcomes) == len(set(outcomes)) >= 7


def test_an_error_may_sharpen_its_status() -> None:
    assert Invalid("Too large.", status=413).status == 413
    assert Invalid("Wrong.").status == 400
