"""Objectives as people write them: what is taken, and what is said of the rest."""

import copy
from typing import Any

import pytest

from forebay.core.request import Priority
from forebay.policy.slo import Burn, Goal, Measure
from forebay.policy.slo_spec import GOALS_MAX, SpecError, spec_of

DATA: dict[str, Any] = {
    "service": "forebay",
    "window": "30d",
    "objectives": {
        "first_token": {"measure": "ttft", "class": "batch", "at_most_s": 2, "goal": 0.95},
        "served": {"measure": "availability", "goal": 0.999, "description": "Is served."},
    },
    "alerts": {
        "ErrorBudgetBurnFast": {"severity": "page", "rate": 14.4, "long": "1h", "short": "5m"},
        "ErrorBudgetBurn": {"severity": "page", "rate": 6, "long": "6h", "short": "30m"},
        "ErrorBudgetBurnSlow": {"severity": "ticket", "rate": 1, "long": "3d", "short": "6h"},
    },
}


def changed(key: str, value: object) -> dict[str, Any]:
    """The data with a value of its own at a key; None takes the key away."""
    data = copy.deepcopy(DATA)
    *way, last = key.split(".")
    section = data
    for name in way:
        section = section[name]
    if value is None:
        del section[last]
    else:
        section[last] = value
    return data


def test_what_is_written_is_taken() -> None:
    spec = spec_of(DATA)
    assert spec.goals[0] == Goal(
        name="first_token",
        measure=Measure.TTFT,
        goal=0.95,
        priority=Priority.BATCH,
        at_most_s=2.0,
    )
    assert spec.goals[1].priority is None
    assert spec.burns[1] == Burn(
        alert="ErrorBudgetBurn", severity="page", rate=6.0, long_s=21_600, short_s=1_800
    )
    assert spec.windows_s == (300, 1_800, 3_600, 21_600, 259_200, 2_592_000)


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("sevice", "x", "There are: service, window, objectives, alerts"),
        ("service", "Fore bay", "lower-case letters"),
        ("window", "30", "30m, 6h, 3d"),
        ("window", "91d", "up to 90d"),
        ("window", None, "missing"),
        ("objectives", {}, "1 to 20"),
        ("objectives", ["ttft"], "keys with values"),
        ("objectives.First", {"measure": "ttft"}, "lower-case letters"),
        ("objectives.served.mesure", "ttft", "There are: measure, class"),
        ("objectives.served.measure", "latency", "availability, ttft, tpot, completeness"),
        ("objectives.served.measure", None, "missing"),
        ("objectives.served.at_most_s", 2, "availability has no threshold"),
        ("objectives.first_token.at_most_s", None, "missing"),
        ("objectives.first_token.at_most_s", 0, "above 0"),
        ("objectives.first_token.at_most_s", "2 s", "Write a number"),
        ("objectives.first_token.class", "urgent", "interactive, batch"),
        ("objectives.served.goal", 1, "less than 1"),
        ("objectives.served.goal", 99.9, "up to 1"),
        ("objectives.served.goal", True, "Write a number"),
        ("objectives.served.goal", float("nan"), "Write a number"),
        ("objectives.served.description", "{{ evil }}", "one line"),
        ("alerts.Mine", {}, "ErrorBudgetBurnFast, ErrorBudgetBurn, ErrorBudgetBurnSlow"),
        ("alerts.ErrorBudgetBurn", None, "missing"),
        ("alerts.ErrorBudgetBurn.severity", "none", "page, ticket"),
        ("alerts.ErrorBudgetBurn.rate", 0, "above 0"),
        ("alerts.ErrorBudgetBurn.short", "5 minutes", "30m, 6h, 3d"),
        ("alerts.ErrorBudgetBurn.long", "30m", "longer than short"),
        ("alerts.ErrorBudgetBurn.long", "31d", "no longer than window"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(key: str, value: object, fix: str) -> None:
    with pytest.raises(SpecError) as raised:
        spec_of(changed(key, value))
    assert raised.value.key == key
    assert fix in raised.value.text


def test_a_goal_on_which_an_alert_could_never_fire_is_refused() -> None:
    with pytest.raises(SpecError) as raised:
        spec_of(changed("objectives.served.goal", 0.93))
    assert raised.value.key == "objectives.served.goal"
    assert "ErrorBudgetBurnFast could never fire" in raised.value.text
    assert "more than 0.931" in raised.value.text
    assert spec_of(changed("objectives.served.goal", 0.932)).goals[1].goal == 0.932


def test_nor_is_one_taken_on_which_it_would_only_just_not_fire() -> None:
    whole = changed("alerts.ErrorBudgetBurnFast.rate", 2.0)
    goals = whole["objectives"]
    assert isinstance(goals, dict)
    goals["served"]["goal"] = 0.5
    with pytest.raises(SpecError, match="ErrorBudgetBurnFast could never fire"):
        spec_of(whole)


@pytest.mark.parametrize("data", [None, [], "ttft", {1: 2}])
def test_what_is_no_mapping_is_no_specification(data: object) -> None:
    with pytest.raises(SpecError, match="the file: This must be keys with values"):
        spec_of(data)


def test_there_are_only_so_many_objectives() -> None:
    many = {f"o{number}": DATA["objectives"]["served"] for number in range(GOALS_MAX)}
    assert len(spec_of(changed("objectives", many)).goals) == GOALS_MAX
    with pytest.raises(SpecError, match="1 to 20"):
        spec_of(changed("objectives", many | {"more": DATA["objectives"]["served"]}))
