"""Who is told of an alert, read from a configuration as Alertmanager reads it."""

from typing import Any

import pytest
import yaml

from forebay.monitoring.alertmanager import alertmanager
from forebay.monitoring.check_alertmanager import receivers_of
from forebay.serve.slo_file import built_in

PAGE, TICKET = {"severity": "page"}, {"severity": "ticket"}


def route(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text)
    assert isinstance(found, dict)
    return found


def test_our_own_configuration_tells_pagerduty_and_mail_of_pages() -> None:
    ours = yaml.safe_load(alertmanager(built_in()))["route"]
    assert receivers_of(ours, PAGE) == ["pagerduty", "mail"]
    assert receivers_of(ours, TICKET) == ["slack", "mail"]
    assert receivers_of(ours, {"severity": "none"}) == ["dead-mans-switch"]


def test_an_alert_that_no_route_wants_goes_to_the_first_receiver() -> None:
    assert receivers_of(
        route("{receiver: all, routes: [{matchers: ['a=b'], receiver: x}]}"), PAGE
    ) == ["all"]


@pytest.mark.parametrize(
    "matching",
    [
        "matchers: ['severity=\"page\"']",
        "matchers: [severity = page]",
        "matchers: ['severity=~\"pa.*\"']",
        "matchers: ['severity!=\"ticket\"']",
        "matchers: ['severity!~\"tick.*\"']",
        "match: {severity: page}",
        "match_re: {severity: 'page|other'}",
    ],
)
def test_each_way_of_matching_is_understood(matching: str) -> None:
    below = route(f"{{receiver: all, routes: [{{{matching}, receiver: pages}}]}}")
    assert receivers_of(below, PAGE) == ["pages"]
    assert receivers_of(below, TICKET) == ["all"]


def test_the_first_route_that_wants_it_is_the_last_unless_it_continues() -> None:
    two = "{receiver: all, routes: [{receiver: x, continue: %s}, {receiver: y}]}"
    assert receivers_of(route(two % "false"), PAGE) == ["x"]
    assert receivers_of(route(two % "true"), PAGE) == ["x", "y"]


def test_a_route_without_a_receiver_has_the_one_above() -> None:
    below = route("{receiver: all, routes: [{routes: [{matchers: ['severity=\"page\"']}]}]}")
    assert receivers_of(below, PAGE) == ["all"]
