"""What the settings of metrics may say."""

import pytest

from forebay.settings import ConfigurationError, Sources, load
from forebay.telemetry.aliases import AliasSet
from forebay.telemetry.config import MetricsConfig, aliases


@pytest.mark.parametrize(
    ("assignment", "fix"),
    [
        ("metrics.path=stats", "metrics.path must begin with /"),
        ("metrics.path=/a b", "metrics.path must begin with /"),
        ("metrics.path=/stats/", "metrics.path must begin with /"),
        ("metrics.aliases=source,grafana", "known are source, vllm, or nothing"),
    ],
)
def test_what_cannot_be_served_stops_the_start_and_names_the_fix(assignment: str, fix: str) -> None:
    with pytest.raises(ConfigurationError, match=fix):
        load(Sources(assignments=(assignment,)))


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("", set()),
        ("vllm", {AliasSet.VLLM}),
        (" source , vllm,", {AliasSet.SOURCE, AliasSet.VLLM}),
    ],
)
def test_the_names_that_are_served_are_those_that_are_listed(
    text: str, sets: set[AliasSet]
) -> None:
    assert {alias.set for alias in aliases(MetricsConfig(aliases=text)).table} == sets
