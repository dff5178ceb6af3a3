"""Settings for a command: read from all sources, or an explanation and exit status 2."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from forebay.settings import Loaded

USAGE, FAILURE = 2, 1
"""Exit statuses: what was typed or configured is wrong; or it was right and could not be done."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings as YAML; see docs/configuration.md."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting, as in admission.wait_s_max=2; may be repeated.",
    ),
]


def loaded(
    file: Path | None,
    assignments: list[str] | None,
    flags: Mapping[str, tuple[str, object]] | None = None,
) -> "Loaded":
    """Return the settings; a flag whose value is None was not given."""
    from forebay.settings import ConfigurationError, Sources, load  # noqa: PLC0415 - see main

    given = {key: flag for key, flag in (flags or {}).items() if flag[1] is not None}
    sources = Sources(
        file=file, environ=os.environ, assignments=tuple(assignments or ()), flags=given
    )
    try:
        return load(sources)
    except ConfigurationError as error:
        count = len(error.problems)
        head = "A setting is wrong." if count == 1 else f"{count} settings are wrong."
        fail("\n  ".join([head, *map(str, error.problems)]), status=USAGE)


def fail(message: str, *, status: int = FAILURE) -> NoReturn:
    """Say what went wrong and end the command."""
    label = typer.style("forebay:", fg=typer.colors.RED, bold=True)
    typer.echo(f"{label} {message}", err=True)
    raise typer.Exit(status)
