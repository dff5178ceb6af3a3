"""Rules 6 and 7: pages read from the code are fresh, metrics are sane, outcomes are tested."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from forebay.core.errors import Outcome
from forebay.telemetry.alias_table import ALIAS_TABLE
from forebay.telemetry.catalogue import CATALOGUE
from forebay.telemetry.metric import Kind, Label, Metric
from scripts.generate_docs import PAGES, render
from tests.tidy.source import ROOT, example, read, report, source, suites

FORBIDDEN_LABELS: Final = frozenset({"key", "path", "prompt", "tenant", "user"})
BASE_UNITS: Final = (
    *(
        "_bytes",
        "_degraded",
        "_held",
        "_imbalance",
        "_info",
        "_loaded",
        "_ratio",
        "_running",
        "_seconds",
    ),
    *("_total", "_waiting"),
    # Units of machines, and states and counts that have none.
    *("_celsius", "_cores", "_watts", "_folded", "_in_progress", "_left_out", "_ready"),
)


def badly_named(metric: Metric) -> Iterator[str]:
    """Metrics whose name, labels or buckets break a convention that readers rely on."""
    if not re.fullmatch(r"(llm|forebay)_[a-z_]+", metric.name):
        yield f"{metric.name}: names are llm_... or forebay_..., lower case"
    if not metric.name.endswith(BASE_UNITS):
        yield f"{metric.name}: a name ends in its base unit: {BASE_UNITS}"
    if metric.name.endswith("_total") != (metric.kind is Kind.COUNTER):
        yield f"{metric.name}: _total is for counters, and counters have it"
    if (metric.buckets is not None) != (metric.kind is Kind.HISTOGRAM):
        yield f"{metric.name}: histograms have buckets, others none"
    if not (metric.help.endswith(".") and metric.action.endswith(".")):
        yield f"{metric.name}: help and action are sentences"


def uncatalogued(text: str, where: str) -> Iterator[str]:
    """Metric names in a text that the catalogue does not have, and no alias is."""
    known = {metric.name for metric in CATALOGUE} | {alias.name for alias in ALIAS_TABLE}
    for name in set(re.findall(r"\bllm_[a-z_]+[a-z]\b", text)):
        stem = re.sub(r"_(bucket|count|sum|created)$", "", name)
        if not {name, stem} & known:
            yield f"{where}: {name} is not in telemetry/catalogue.py"


def bad_quantiles(text: str, where: str) -> Iterator[str]:
    """Quantiles that can never work: of counters without a rate, or without `le`."""
    for expression in re.findall(r"histogram_quantile\(([^\n]*)", text):
        if not (re.search(r"\b(i?rate|increase)\(", expression) and _has_le(expression)):
            yield f"{where}: histogram_quantile needs rate(...) and by (le, ...)"


def untested(outcomes: Iterable[Outcome], texts: Iterable[str]) -> Iterator[str]:
    """Outcomes that no HTTP test names."""
    joined = "\n".join(texts)
    for outcome in outcomes:
        if not re.search(rf"\bOutcome\.{outcome.name}\b|[\"']{outcome}[\"']", joined):
            yield f"{outcome}: no test in tests/http or tests/e2e names it"


def reachable() -> Iterator[Outcome]:
    """Outcomes that the code can end with: those named outside the table itself."""
    others = [module.text for module in source() if module.name != "forebay.core.errors"]
    table = read("src/forebay/core/errors.py")
    for outcome in Outcome:
        raised = re.search(rf"\n    outcome(: Outcome)? = Outcome\.{outcome.name}\n", table)
        if raised or any(re.search(rf"Outcome\.{outcome.name}\b", text) for text in others):
            yield outcome


def operated() -> dict[str, str]:
    """Texts that operators run or read: documents, dashboards, alerts."""
    found = [path for folder in ("docs", "deploy") for path in (ROOT / folder).rglob("*.*")]
    kept = [path for path in found if path.suffix in {".md", ".yaml", ".yml", ".json", ".conf"}]
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in kept}
    return texts | {"README.md": read("README.md")}


def _has_le(expression: str) -> bool:
    return bool(re.search(r"\bby ?\([^)]*\ble\b", expression))


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_fresh(name: str) -> None:
    assert read(f"docs/{name}") == render(PAGES[name]), f"docs/{name} is stale: run `make docs`"


def test_metrics_keep_the_conventions() -> None:
    report(offence for metric in CATALOGUE for offence in badly_named(metric))
    assert not {str(label) for label in Label} & FORBIDDEN_LABELS
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)


def test_metrics_named_anywhere_are_in_the_catalogue() -> None:
    texts = operated() | {module.path: module.text for module in source()}
    report(offence for where, text in texts.items() for offence in uncatalogued(text, where))


def test_quantiles_can_work() -> None:
    report(offence for where, text in operated().items() for offence in bad_quantiles(text, where))


def test_every_outcome_has_a_test_over_http() -> None:
    folders = ("tests/http", "tests/e2e")
    texts = [module.text for module in suites() if module.path.startswith(folders)]
    report(untested(reachable(), texts))


def test_the_rule_sees_a_badly_named_metric() -> None:
    bad = Metric(name="latency", kind=Kind.COUNTER, help="what", action="do")
    assert len(list(badly_named(bad))) == 4
    assert not list(badly_named(CATALOGUE[0]))


def test_the_rule_sees_a_metric_that_is_not_in_the_catalogue() -> None:
    assert list(uncatalogued("rate(llm_wishes_total[5m])", "x"))
    assert not list(uncatalogued("llm_request_duration_seconds_bucket", "x"))


def test_the_rule_sees_a_quantile_that_cannot_work() -> None:
    assert list(bad_quantiles("histogram_quantile(0.95, llm_x_bucket)", "x"))
    assert list(bad_quantiles("histogram_quantile(0.95, sum(rate(llm_x_bucket[5m])))", "x"))
    good = "histogram_quantile(0.95, sum by (le) (rate(llm_x_bucket[5m])))"
    assert not list(bad_quantiles(good, "x"))


def test_the_rule_sees_an_outcome_without_a_test() -> None:
    text = example("assert outcome is Outcome.OK").text
    assert list(untested([Outcome.OK, Outcome.EXPIRED], [text])) == [
        "expired: no test in tests/http or tests/e2e names it"
    ]
