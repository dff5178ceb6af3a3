import pytest

from forebay.policy.fair_share import FairShare, cost_of, parse_weights


def a_share(tenants_max: int = 100, credit: float = 0.0, **weights: float) -> FairShare:
    return FairShare(weights, tenants_max=tenants_max, credit=credit)


def test_a_completion_token_costs_two_prompt_tokens() -> None:
    assert cost_of(10, 5) == 20


def test_who_was_served_less_has_the_lower_counter() -> None:
    share = a_share()
    share.come("a")
    share.come("b")
    share.charge("a", 100)
    assert share.turn("b") < share.turn("a")


def test_a_weight_of_two_is_charged_half() -> None:
    share = a_share(heavy=2.0)
    share.come("heavy")
    share.charge("heavy", 100)
    assert share.turn("heavy") == 50


def test_a_correction_gives_back_what_was_charged_too_much() -> None:
    share = a_share()
    share.charge("a", 100)
    share.correct("a", -60)
    assert share.turn("a") == 40


def test_a_tenant_that_comes_is_lifted_to_the_level_of_those_served() -> None:
    share = a_share()
    for _ in range(10):
        share.charge("a", 100)
    share.come("b")
    # The tenth was served from 900.
    assert share.turn("b") == 900


def test_a_credit_lets_who_comes_stand_below_the_level() -> None:
    share = a_share(credit=150)
    for _ in range(10):
        share.charge("a", 100)
    level = share.turn("a") - 100
    share.come("b")
    assert share.turn("b") == level - 150


def test_one_that_comes_back_soon_keeps_what_it_was_served() -> None:
    share = a_share()
    share.come("a")
    share.charge("a", 100)
    share.come("a")
    assert share.turn("a") == 100


def test_who_used_an_idle_server_alone_does_not_pay_for_it_later() -> None:
    share = a_share()
    for _ in range(10):
        share.serve("a")
        share.correct("a", 100)
    share.come("b")
    assert share.turn("a") - share.turn("b") <= 100


def test_tenants_are_forgotten_beyond_the_most_that_are_remembered() -> None:
    share = a_share(tenants_max=3)
    for name in "abcdefgh":
        share.come(name)
        share.charge(name, 10)
    assert len(share) == 3


def test_weights_are_read_from_a_line() -> None:
    assert parse_weights(" alice=2, bob=0.5,") == {"alice": 2.0, "bob": 0.5}
    assert parse_weights("") == {}


def test_a_tenant_whose_name_has_an_equals_sign_has_a_weight_too() -> None:
    assert parse_weights("a=b=3") == {"a=b": 3.0}


@pytest.mark.parametrize("text", ["alice", "alice=", "=2", "a=0", "a=-1", "a=nan", "a=1000", "a=x"])
def test_weights_that_cannot_be_read_say_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"from 0\.01 to 100"):
        parse_weights(text)
