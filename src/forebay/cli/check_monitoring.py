"""`forebay check-monitoring`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from forebay.cli.loading import FAILURE, USAGE, fail

if TYPE_CHECKING:
    from forebay.monitoring.alert import Severity
    from forebay.monitoring.check import Chain
    from forebay.monitoring.finding import Finding
    from forebay.monitoring.site import Site
    from forebay.policy.slo import Spec

_EXAMPLES = """\b
Examples:
  forebay check-monitoring
  forebay check-monitoring --prometheus http://127.0.0.1:9090
"""
_COLOURS: Final = {
    "ok": typer.colors.GREEN,
    "missing": typer.colors.RED,
    "not asked": typer.colors.YELLOW,
}

commands = typer.Typer()


def _url(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="URL", help=what)
    return option


@commands.command(name="check-monitoring", epilog=_EXAMPLES)
def check_monitoring(  # noqa: PLR0913 - a command's options are its parameters
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The server. Default: http://127.0.0.1:8000.")
    ] = "http://127.0.0.1:8000",
    *,
    prometheus: Annotated[str | None, _url("Prometheus, whose rules are compared.")] = None,
    alertmanager: Annotated[str | None, _url("Alertmanager.")] = None,
    grafana: Annotated[
        str | None, _url("Grafana; GRAFANA_TOKEN is shown to it, if that is set.")
    ] = None,
    search: Annotated[str | None, _url("Elasticsearch or OpenSearch, with the log.")] = None,
    slo: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Objectives, if they are not those of the package."),
    ] = None,
    key: Annotated[
        str,
        typer.Option(
            envvar="FOREBAY_KEY", metavar="KEY", help="API key of an operator, in closed mode."
        ),
    ] = "",
    send_test_alert: Annotated[
        bool,
        typer.Option("--send-test-alert", help="Fire a ticket, see it sent, and end it again."),
    ] = False,
    send_test_page: Annotated[
        bool, typer.Option("--send-test-page", help="The same of a page: it wakes who is on duty.")
    ] = False,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Longest wait for an answer."),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what of the monitoring is there, what is missing, and how it comes.

    Sends one request of two tokens. Addresses of others may hold a user and a password, as in
    https://user:password@host. Exit status 1 when something is missing.
    """
    from forebay.monitoring.check import Chain  # noqa: PLC0415 - see main

    chain = Chain(
        server=_site(url, timeout_s, key),
        spec=_spec(slo),
        prometheus=_site(prometheus, timeout_s) if prometheus else None,
        alertmanager=_site(alertmanager, timeout_s) if alertmanager else None,
        grafana=_site(grafana, timeout_s, os.environ.get("GRAFANA_TOKEN", "")) if grafana else None,
        search=_site(search, timeout_s) if search else None,
        test_alerts=_trials(ticket=send_test_alert, page=send_test_page),
    )
    if _told(chain, as_json=as_json):
        raise typer.Exit(FAILURE)


def _told(chain: "Chain", *, as_json: bool) -> int:
    """Say what is found, as it is found, and how much is missing."""
    found = []
    for finding in chain.findings():
        found.append(finding)
        if not as_json:
            _show(finding)
    missing = sum(finding.state == "missing" for finding in found)
    if as_json:
        typer.echo(json.dumps([_as_data(finding) for finding in found], indent=2))
    else:
        typer.echo(f"{missing} missing." if missing else "Nothing is missing.")
    return missing


def _trials(*, ticket: bool, page: bool) -> "tuple[Severity, ...]":
    from forebay.monitoring.alert import Severity  # noqa: PLC0415 - see main

    return (*((Severity.TICKET,) if ticket else ()), *((Severity.PAGE,) if page else ()))


def _spec(file: Path | None) -> "Spec":
    from forebay.policy.slo_spec import SpecError  # noqa: PLC0415 - see main
    from forebay.serve.slo_file import SloConfig, read_spec  # noqa: PLC0415 - see main

    try:
        return read_spec(SloConfig(file=str(file) if file else ""))
    except SpecError as error:
        fail(f"--slo: {error}", status=USAGE)


def _site(url: str, timeout_s: float, token: str = "") -> "Site":
    from forebay.monitoring.site import WrongUrl, site  # noqa: PLC0415 - see main

    try:
        return site(url, timeout_s=timeout_s, token=token)
    except WrongUrl as error:
        fail(str(error), status=USAGE)


def _show(finding: "Finding") -> None:
    state = typer.style(f"{finding.state:<9}", fg=_COLOURS[finding.state])
    typer.echo(f"{state} {finding.link:<12} {finding.what}")
    if finding.fix:
        typer.echo(f"{'':22} -> {finding.fix}")


def _as_data(finding: "Finding") -> dict[str, str]:
    return {
        "link": finding.link,
        "state": finding.state,
        "what": finding.what,
        "fix": finding.fix,
    }
