"""`forebay check-monitoring` on a whole deployment, and with each link of it broken in turn."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.drill.alertmanager import running_alertmanager
from forebay.monitoring import check_alertmanager
from forebay.monitoring.alert import Severity
from forebay.monitoring.check import Chain
from forebay.monitoring.check_views import SearchCheck
from forebay.monitoring.finding import Finding, Link, State
from forebay.monitoring.site import Site, site
from forebay.serve.slo_file import built_in
from tests.support import log_path
from tests.support.server import free_port, serving
from tests.support.watched import Watched, needs_programs, watched

pytestmark = [
    needs_programs,
    pytest.mark.skipif(bool(log_path.missing()), reason=f"not installed: {log_path.missing()}"),
]


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[log_path.LogPath]:
    """The way of the log to an index."""
    with log_path.log_path(tmp_path_factory.mktemp("log_path")) as found:
        yield found


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, path: log_path.LogPath) -> Iterator[Watched]:
    """A whole deployment."""
    with watched(tmp_path_factory.mktemp("watched"), log=path.file) as found:
        found.warm_up()
        yield found


@pytest.fixture(autouse=True)
def _trusts(rig: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(rig.authority))
    monkeypatch.setattr(check_alertmanager, "_SENT_S_MAX", 3.0)


def at(url: str, token: str = "") -> Site:
    return site(url, timeout_s=5.0, token=token)


def chain(rig: Watched, **others: Any) -> list[Finding]:
    """Walk as far as Alertmanager."""
    asked: dict[str, Any] = {
        "server": at(rig.url, rig.key),
        "spec": built_in(),
        "prometheus": at(rig.prometheus_url),
        "alertmanager": at(rig.alertmanager_url),
    }
    return list(Chain(**(asked | others)).findings())


def missing(findings: list[Finding]) -> dict[str, str]:
    """What is missing -> the fix."""
    return {each.what: each.fix for each in findings if each.state is State.MISSING}


def unsent(rig: Watched, severity: Severity) -> list[str]:
    """Send a trial; return what is said to be sent by nobody."""
    return [what for what in missing(chain(rig, test_alerts=(severity,))) if "sent by" in what]


def until_missing(rig: Watched, words: str) -> str:
    """Wait until that is missing, which takes as long as the broken part takes to notice."""
    limit = time.monotonic() + 20
    while True:
        found = missing(chain(rig))
        for what, fix in found.items():
            if words in what:
                return fix
        assert time.monotonic() < limit, found
        time.sleep(0.3)


def until_whole(rig: Watched) -> None:
    """Wait until nothing is missing: what another test broke is mended within a scrape or two."""
    limit = time.monotonic() + 20
    while found := missing(chain(rig)):
        assert time.monotonic() < limit, found
        time.sleep(0.3)


def documented(rig: Watched) -> str:
    """The command of docs/monitoring.md, with our addresses."""
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    (command,) = re.findall(
        r"^```bash\n(forebay check-monitoring.*?)\n```", text, re.MULTILINE | re.DOTALL
    )
    for port, url in (
        ("8000", rig.url),
        ("9090", rig.prometheus_url),
        ("9093", rig.alertmanager_url),
    ):
        command = command.replace(f"http://127.0.0.1:{port}", url)
    return str(command)


def test_nothing_is_missing_of_a_whole_deployment(rig: Watched, path: log_path.LogPath) -> None:
    until_whole(rig)
    status, output = rig.run(f"{documented(rig)} --search {path.url}")
    assert status == 0, output
    for words in (
        "Every name of docs/metrics.md is there.",
        "llm_requests_total +1",
        "Server-Timing: ",
        "has its receipt",
        "One of its targets is this very process.",
        "alerts are loaded, as this version writes them.",
        "DeadMansSwitch fires",
        "A page goes to pagerduty, mail.",
        " was sent by slack.",
        " was taken back, and is over.",
        "It found the request's line in model-api-logs-",
        "Nothing is missing.",
    ):
        assert words in output
    assert rig.key not in output
    told = [notice for notice in rig.sinks.notices if "ForebayTestAlert" in notice.text]
    assert told, "the message did come"


def test_findings_can_be_read_by_a_machine(rig: Watched) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    status, output = rig.run(f'forebay check-monitoring "$FOREBAY" --prometheus {nowhere} --json')
    found = json.loads(output)
    assert status == 1
    (wrong,) = (each for each in found if each["state"] == "missing")
    assert wrong["link"] == "prometheus"
    assert "Nobody listens at" in wrong["what"]


@pytest.mark.parametrize("words", ["http://", "--prometheus ftp://x", "--slo nowhere.yaml"])
def test_what_is_typed_wrong_ends_with_2(rig: Watched, words: str) -> None:
    status, output = rig.run(f"forebay check-monitoring {words}")
    assert status == 2, output


def test_without_a_key_it_says_which(rig: Watched) -> None:
    found = missing(chain(rig, server=at(rig.url)))
    assert "export FOREBAY_KEY" in found["/metrics answers 401."]


def test_a_certificate_that_nobody_trusts_is_named(
    rig: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    (what,) = missing(chain(rig, server=at(rig.url, rig.key), prometheus=None, alertmanager=None))
    assert "is not trusted" in what
    assert "SSL_CERT_FILE" in what


def test_a_prometheus_that_watches_another_server_is_found_out(
    rig: Watched, tmp_path: Path
) -> None:
    until_whole(rig)
    with serving(tmp_path, "--engine", "scripted") as other:
        found = missing(chain(rig, server=at(other.url)))
        # In open mode there is no key, and the runbooks' commands show none.
        asked = 'curl -sS -H "X-API-Key: $FOREBAY_KEY" "$FOREBAY/admin/ledger"'
        assert '"balanced":true' in rig.run(asked, FOREBAY=other.url, FOREBAY_KEY="")[1]
    assert "None of its targets is this process, or not yet." in found


def test_rules_that_are_not_as_this_version_writes_them_are_named(rig: Watched) -> None:
    def change(found: dict[str, Any]) -> None:
        groups = {group["name"]: group["rules"] for group in found["groups"]}
        alerts = {rule["alert"]: rule for rule in groups["forebay-alerts"] if "alert" in rule}
        groups["forebay-alerts"].remove(alerts["LedgerBroken"])
        alerts["DiskFull"]["expr"] = "forebay_disk_free_bytes < 1"
        alerts["NotReady"]["for"] = "1h"
        alerts["UsageLost"]["labels"]["severity"] = "none"
        groups["forebay-objectives"][:] = groups["forebay-objectives"][:-1]

    with rig.prometheus_with(change, "rules/forebay.yml"):
        assert "forebay monitoring write" in until_missing(rig, "Not loaded: LedgerBroken.")
        found = " ".join(missing(chain(rig)))
    assert "DiskFull (its query)" in found
    assert "NotReady (fires after 3600 s, not 300)" in found
    assert "UsageLost (its severity)" in found
    assert "Recording rules not loaded: slo:budget_left:ratio." in found


def test_a_rule_that_cannot_be_evaluated_is_named(rig: Watched) -> None:
    def change(found: dict[str, Any]) -> None:
        for rule in (rule for group in found["groups"] for rule in group["rules"]):
            if rule.get("alert") == "DiskFull":
                rule["expr"] = "forebay_disk_free_bytes + on () group_left () llm_ledger_held"

    with rig.prometheus_with(change, "rules/forebay.yml"):
        until_missing(rig, "DiskFull cannot be evaluated")


def test_a_scrape_job_without_its_key_is_named(rig: Watched) -> None:
    def forget(found: dict[str, Any]) -> None:
        del found["scrape_configs"][0]["authorization"]

    with rig.prometheus_with(forget):
        until_missing(rig, "is down: server returned HTTP status 401")


def test_a_scrape_job_that_is_gone_is_named(rig: Watched) -> None:
    def rename(found: dict[str, Any]) -> None:
        found["scrape_configs"][0]["job_name"] = "other"

    with rig.prometheus_with(rename):
        assert "job forebay" in until_missing(rig, "It has no target of the job forebay.")


def test_a_prometheus_that_tells_nobody_is_named(rig: Watched) -> None:
    def mute(found: dict[str, Any]) -> None:
        del found["alerting"]

    with rig.prometheus_with(mute):
        assert "alertmanagers:" in until_missing(rig, "It knows no Alertmanager")


def test_pages_that_go_to_nobody_are_named(rig: Watched) -> None:
    def mute(found: dict[str, Any]) -> None:
        for receiver in found["receivers"]:
            receiver.pop("pagerduty_configs", None)

    with rig.alertmanager_with(mute):
        assert "A page goes to pagerduty, which tells nobody." in missing(chain(rig))


def test_a_receiver_whose_address_is_wrong_is_named(rig: Watched) -> None:
    def misdirect(found: dict[str, Any]) -> None:
        nowhere = f"http://127.0.0.1:{rig.sinks.web_port}/nowhere"
        found["global"]["slack_api_url"] = nowhere
        for receiver in found["receivers"]:
            for slack in receiver.get("slack_configs", ()):
                slack["api_url"] = nowhere
        del found["global"]["slack_api_url_file"]

    with rig.alertmanager_with(misdirect):
        found = missing(chain(rig, test_alerts=(Severity.TICKET,)))
    assert any("could not be sent by slack." in what for what in found), found
    assert not unsent(rig, Severity.TICKET), "it is mended"


def test_a_trial_page_reaches_the_pager_and_is_taken_back(rig: Watched) -> None:
    found = chain(rig, test_alerts=(Severity.PAGE,))
    said = [each.what for each in found if each.link is Link.ALERTMANAGER]
    assert any("a page, was sent by" in what and "pagerduty" in what for what in said), said
    assert any("was taken back, and is over." in what for what in said), said


def test_a_pager_that_cannot_be_reached_is_named_before_somebody_is_to_be_woken(
    rig: Watched,
) -> None:
    def misdirect(found: dict[str, Any]) -> None:
        found["global"]["pagerduty_url"] = f"http://127.0.0.1:{rig.sinks.web_port}/nowhere"

    with rig.alertmanager_with(misdirect):
        found = missing(chain(rig, test_alerts=(Severity.PAGE,)))
    assert any("a page, could not be sent by pagerduty." in what for what in found), found
    assert not unsent(rig, Severity.PAGE), "it is mended"


def test_a_silence_that_hides_the_test_alert_is_suspected(rig: Watched) -> None:
    command = 'amtool --alertmanager.url="$ALERTMANAGER" silence'
    status, number = rig.run(f"{command} add alertname=~ForebayTestAlert.* --comment x -d 1m -a me")
    assert status == 0, number
    try:
        found = missing(chain(rig, test_alerts=(Severity.TICKET,)))
    finally:
        rig.run(f"{command} expire {number}")
    (fix,) = (fix for what, fix in found.items() if "was not sent within" in what)
    assert "silenced" in fix


def test_an_alertmanager_that_prometheus_does_not_know_is_named(
    rig: Watched, tmp_path: Path
) -> None:
    config = {"route": {"receiver": "x"}, "receivers": [{"name": "x"}]}
    with running_alertmanager(config, tmp_path, port=free_port()) as other:
        found = missing(chain(rig, alertmanager=at(f"http://127.0.0.1:{other.daemon.target.port}")))
    assert "DeadMansSwitch has not come from Prometheus." in found
    assert "A page goes to x, which tells nobody." in found


def test_a_line_that_was_not_shipped_is_missed(rig: Watched, path: log_path.LogPath) -> None:
    check = SearchCheck(site=at(path.url), request_id="never-made", wait_s_max=0.6)
    (what,) = missing(list(check.findings()))
    assert "has not got it" in what
    assert "never-made" in what
