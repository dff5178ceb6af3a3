"""`forebay monitoring write`."""

from pathlib import Path
from typing import Annotated

import typer

from forebay.cli.loading import USAGE, fail
from forebay.monitoring.alert import Links

_EXAMPLES = """\b
Examples:
  forebay monitoring write monitoring
  forebay monitoring write monitoring --slo slo.yaml --grafana https://grafana.example.com
"""
_LINKS = Links()

monitoring = typer.Typer(no_args_is_help=True, help="What watches a server from outside.")
commands = typer.Typer()
commands.add_typer(monitoring, name="monitoring")


@monitoring.callback()
def _root() -> None:
    """Write what watches a server from outside."""


@monitoring.command(epilog=_EXAMPLES)
def write(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the files go; it is made if need be.")
    ],
    *,
    slo: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Objectives as YAML. Default: those of the package."),
    ] = None,
    grafana: Annotated[
        str, typer.Option(metavar="URL", help="Where alerts link to dashboards.")
    ] = _LINKS.grafana,
    runbooks: Annotated[
        str, typer.Option(metavar="URL", help="Where alerts link to runbooks.")
    ] = _LINKS.runbooks,
) -> None:
    """Write rules, alerts, dashboards and configurations for what watches a server.

    The rules are made from the objectives. Files of these names in DIR are replaced, others are
    left alone; docs/alerts.md says what to set in them.
    """
    from forebay.monitoring.dashboards import DashboardsUnavailable  # noqa: PLC0415 - see main
    from forebay.monitoring.writing import write as write_files  # noqa: PLC0415 - see main
    from forebay.policy.slo_spec import SpecError  # noqa: PLC0415 - see main
    from forebay.serve.slo_file import SloConfig, read_spec  # noqa: PLC0415 - see main

    for option, url in (("--grafana", grafana), ("--runbooks", runbooks)):
        if not url.startswith(("http://", "https://")) or any(each in url for each in " {}\n"):
            fail(f"{option} takes an address, as in https://grafana.example.com.", status=USAGE)
    try:
        spec = read_spec(SloConfig(file=str(slo) if slo else ""))
    except SpecError as error:
        fail(f"{slo}: {error}", status=USAGE)
    links = Links(runbooks=runbooks, grafana=grafana)
    try:
        try:
            written = write_files(folder, spec, links)
        except DashboardsUnavailable as error:
            typer.echo(error, err=True)
            written = write_files(folder, spec, links, dashboards=False)
    except OSError as error:
        fail(f"{error.filename or folder} cannot be written: {error.strerror}.")
    for path in written:
        typer.echo(path)
