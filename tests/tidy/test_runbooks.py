"""Rule 12: every alert has a runbook, all of one form, and what they name exists."""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from forebay.monitoring.alert import Alert, duration, windowed
from forebay.monitoring.alerts import ALERTS
from forebay.telemetry.catalogue import CATALOGUE
from forebay.telemetry.log_line import OWN_PREFIX
from tests.support.runbooks import HEADINGS, Expectation, Page, index, pages
from tests.tidy.source import read, report, source

PAGES: Final = pages()
# Commands that need what a test's machine does not have -> what.
NOT_RUN: Final = {
    "systemctl restart forebay": "systemd",
    "nvidia-smi": "a GPU",
    "forebay pull smollm2-135m-instruct": "the network; tests/e2e/test_preparation.py pulls models",
}
ENGINES_STAND_IN: Final = "ENGINE."
"""A page writes `ENGINE.threads` for the setting of whichever engine runs."""


def head_of(alert: Alert) -> str:
    """The line under the title of an alert's page."""
    held = f"for {duration(alert.hold_s)}" if alert.hold_s else "at once"
    of_it = f"Severity: {alert.severity}. Area: {alert.area}. Panel: {alert.panel}."
    return f"{of_it} Fires: {held}."


def deformed(page: Page) -> Iterator[str]:
    """What of a page is not in the form."""
    if page.headings != HEADINGS:
        yield f"{page.name}: its headings are {page.headings}"
    for command in page.commands():
        if command.expected is None:
            yield f"{page.name}: `{command.text}`: no word on what it shows"
    rows = [line for line in page.text.splitlines() if line.startswith("| ")]
    if rows[:1] != ["| Sign | Cause | What to do |"] or len(rows) < 4:
        yield f"{page.name}: three causes at least, in a table of sign, cause, what to do"


def invented(page: Page) -> Iterator[str]:
    """What a page names and nobody has: metrics, settings, events of the log, routes."""
    for span in page.spans():
        if not _exists(span):
            yield f"{page.name}: there is no {span}"


def _exists(span: str) -> bool:
    if re.fullmatch(r"(llm|forebay)_[a-z_]+", span):
        return span in METRICS
    if span.startswith(OWN_PREFIX) and span not in FILES:
        return f"{span.removeprefix(OWN_PREFIX)}=" in SOURCE
    if re.fullmatch(r"[a-z]+(\.NAME)?\.[a-z_]+", span.replace(ENGINES_STAND_IN, "openvino.")):
        return span.replace(ENGINES_STAND_IN, "openvino.") in KNOWN
    if re.fullmatch(r"/[a-z0-9/]+", span):
        return f"| `{span}`" in ROUTES or f"`{span}`" in ROUTES
    return True


def _events() -> Iterator[str]:
    for module in source():
        yield from re.findall(r"\"([a-z]+\.[a-z_]+)\"", module.text)
    yield from (f"{name}.{verb}" for name in ("route",) for verb in ("rolled_back",))


METRICS: Final = {metric.name for metric in CATALOGUE}
SOURCE: Final = "".join(module.text for module in source())
FILES: Final = frozenset({"accounts.sqlite", "prometheus.yml", "alertmanager.yml", "slo.yaml"})
SETTINGS: Final = re.findall(r"^\| `([^`]+)` \|", read("docs/configuration.md"), re.MULTILINE)
KNOWN: Final = {*SETTINGS, *_events(), *FILES}
ROUTES: Final = read("docs/route-access.md")


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.name for page in PAGES} == {alert.name for alert in ALERTS}


def test_every_page_is_in_the_one_form() -> None:
    report(offence for page in PAGES for offence in deformed(page))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_page_asks_what_its_alert_asks(alert: Alert) -> None:
    (page,) = (page for page in PAGES if page.name == alert.name)
    assert page.text.startswith(f"# {alert.name}\n\n")
    assert page.head == head_of(alert)
    assert page.query == windowed(alert.expr)


def test_what_the_pages_name_exists() -> None:
    report(offence for page in PAGES for offence in invented(page))


def test_the_index_lists_every_page_in_the_order_of_the_alerts() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", index().text, re.MULTILINE)
    assert listed == [(alert.name, str(alert.severity)) for alert in ALERTS]


def test_what_is_not_run_is_on_a_page_and_no_more_than_a_handful() -> None:
    shown = {command.text for page in PAGES for command in page.commands()}
    assert set(NOT_RUN) <= shown
    assert len(NOT_RUN) <= 5


def test_the_rule_sees_a_page_out_of_form() -> None:
    page = Page(name="X", text="# X\n\nhead\n\n## What fired\n\n```bash\ntrue\n```\n\nWell.\n")
    assert len(list(deformed(page))) == 3


@pytest.mark.parametrize(
    "span",
    [
        *("llm_wishes_total", "admission.wishes_max", "worker.wished"),
        *("forebay.wished_for", "/admin/wishes"),
    ],
)
def test_the_rule_sees_what_does_not_exist(span: str) -> None:
    assert list(invented(Page(name="X", text=f"# X\n\n`{span}`\n")))


@pytest.mark.parametrize(
    ("said", "output"),
    [
        ("prints nothing", "something"),
        ("`ready`", ""),
        ("`ready`", "draining"),
        ("no `missing`", "missing"),
        ("each value is 0", '{job="forebay"} => 1 @[1763777602.1]'),
        ("each value is below 0.9", "alertmanager_failed_total 3"),
        ("each value is above 0.05", "{} => 0.01 @[1763777602.1]"),
        ("each value is 1", "an error"),
        ("each value is 1", ""),
    ],
)
def test_the_rule_sees_an_output_that_is_not_as_said(said: str, output: str) -> None:
    assert list(Expectation(said).objections(output))


@pytest.mark.parametrize(
    ("said", "output"),
    [
        ("prints nothing", ""),
        ("prints nothing, or each value is below 0.9", ""),
        ("prints nothing, or each value is below 0.9", '{gpu="0"} => 0.5 @[1.1]'),
        ("`ready` and no `error`", "ready"),
        ("no `error`", ""),
        ("each value is above -1", "{} => 0 @[1763777602.1]"),
    ],
)
def test_the_rule_takes_an_output_that_is_as_said(said: str, output: str) -> None:
    assert not list(Expectation(said).objections(output))
