"""`forebay drill`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.loading import FAILURE, USAGE, fail
from forebay.cli.progress import Steps

if TYPE_CHECKING:
    from forebay.drill.findings import Result
    from forebay.drill.stage import Drill

_EXAMPLES = """\b
Examples:
  forebay drill --list
  forebay drill worker vanish --quick
  forebay drill alerts --only ForebayDown
  forebay drill --json drills.json
"""

commands = typer.Typer()


@commands.command(epilog=_EXAMPLES)
def drill(  # noqa: PLR0913 - each is an option of the command
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Drills to run. Default: all.", show_default=False),
    ] = None,
    *,
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Run them on this engine only: scripted, or auto."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter, with the same gates.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="ALERT", help="alerts: play the cases of these alerts only."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the raw figures to a file."),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say what there is, and end.")] = False,
) -> None:
    """Break a server on purpose and measure what was promised of it.

    Each drill starts servers of its own on free ports of this machine. Exit status 1 when a gate
    fails; docs/drills.md explains every drill.
    """
    from forebay.drill import running  # noqa: PLC0415 - see main
    from forebay.settings.sections import ModelConfig  # noqa: PLC0415 - see main

    drills = _chosen(names or [])
    if listed:
        for each in drills:
            typer.echo(f"{each.name:<16} {each.about} ({', '.join(each.engines)})")
        return
    results: list[Result] = []
    for each in drills:
        for which in (engine,) if engine else each.engines:
            with Steps(f"{each.name} · {which}") as say:
                result = running.run(
                    each,
                    which,
                    quick=quick,
                    models=ModelConfig().folder(),
                    say=say,
                    only=only or (),
                )
            results.append(result)
            _show(result)
            if json_file is not None:
                data = running.as_data(results)
                json_file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
                json_file.with_suffix(".md").write_text(
                    running.as_tables(results).lstrip() + "\n", encoding="utf-8"
                )
    if not all(result.passed for result in results):
        raise typer.Exit(FAILURE)


def _chosen(names: list[str]) -> "list[Drill]":
    from forebay.drill import catalogue  # noqa: PLC0415 - see main

    try:
        return catalogue.named(names)
    except KeyError as unknown:
        known = ", ".join(each.name for each in catalogue.DRILLS)
        fail(f"There is no drill {unknown}. There are: {known}.", status=USAGE)


def _show(result: "Result") -> None:
    """Print a drill's table."""
    from rich.console import Console  # noqa: PLC0415 - see main
    from rich.table import Table  # noqa: PLC0415 - see main

    from forebay.drill import running  # noqa: PLC0415 - see main

    table = Table("what", "required", "measured", "", title=f"{result.drill} · {result.engine}")
    for _, _, *cells, verdict in running.lines(result):
        style = "green" if verdict == "pass" else "bold red"
        table.add_row(*cells, f"[{style}]{verdict}[/]")
    table.caption = f"{result.took_s:.0f} s"
    Console().print(table)
