"""Whether the goals that Prometheus has are those of the objectives."""

from typing import Any

from forebay.monitoring.check_prometheus import other_goals
from forebay.monitoring.records import budget_records
from forebay.serve.slo_file import built_in


def loaded() -> list[dict[str, Any]]:
    return [
        {"name": each.name, "query": each.expr, "labels": dict(each.labels)}
        for each in budget_records(built_in())
        if each.name == "slo:goal:ratio"
    ]


def test_the_goals_that_were_written_are_ours() -> None:
    assert other_goals(built_in(), loaded()) == []


def test_a_goal_that_was_changed_and_one_that_is_nobodys_are_named() -> None:
    rules = loaded()
    rules[0]["query"] = "vector(0.5)"
    rules.append({"name": "slo:goal:ratio", "query": "vector(0.9)", "labels": {"slo": "old"}})
    assert other_goals(built_in(), rules) == sorted([rules[0]["labels"]["slo"], "old"])


def test_no_goals_at_all_are_told_of_elsewhere() -> None:
    assert other_goals(built_in(), []) == []
