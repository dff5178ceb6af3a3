"""Which model a caller comes to."""

import pytest

from forebay.policy.split import Part, choose, parse_split, point

CALLERS = [f"tenant-{number}" for number in range(2_000)]


def shares(parts: tuple[Part, ...]) -> dict[str, float]:
    found = [choose(parts, point("route", caller)) for caller in CALLERS]
    return {part.model: found.count(part.model) / len(found) for part in parts}


def test_each_model_gets_callers_by_its_weight() -> None:
    found = shares((Part("a", 6.0), Part("b", 3.0), Part("c", 1.0)))
    assert found == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1}, abs=0.03)


def test_a_caller_always_comes_to_the_same_model() -> None:
    parts = (Part("a", 1.0), Part("b", 1.0))
    assert {choose(parts, point("r", "me")) for _ in range(9)} == {choose(parts, point("r", "me"))}


def test_who_is_where_on_one_route_says_nothing_of_another() -> None:
    halves = [(point("one", caller) < 0.5) == (point("two", caller) < 0.5) for caller in CALLERS]
    assert 0.45 < sum(halves) / len(halves) < 0.55


def test_when_one_grows_nobody_leaves_it() -> None:
    few, many = (Part("old", 95.0), Part("new", 5.0)), (Part("old", 50.0), Part("new", 50.0))
    for caller in CALLERS:
        where = point("route", caller)
        if choose(few, where) == "new":
            assert choose(many, where) == "new"


def test_a_model_of_no_weight_gets_nobody() -> None:
    parts = (Part("a", 1.0), Part("none", 0.0))
    assert {choose(parts, number / 1_000) for number in range(1_000)} == {"a"}
    assert choose(parts, 1.0) == "a"


def test_whoever_stands_on_a_border_comes_to_the_model_behind_it() -> None:
    assert choose((Part("a", 1.0), Part("b", 1.0)), 0.5) == "b"
    assert choose((Part("none", 0.0), Part("a", 1.0)), 0.0) == "a"


def test_weights_are_read_with_versions_in_names() -> None:
    assert parse_split("a=90, b:v2 = 10") == (Part("a", 90.0), Part("b:v2", 10.0))


@pytest.mark.parametrize(
    "text", ["", "a", "a=", "=1", "a=x", "a=-1", "a=nan", "a=inf", "a=1,a=2", "a=0"]
)
def test_a_split_that_leads_nowhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not MODEL=WEIGHT|stands twice|no model has a weight"):
        parse_split(text)
