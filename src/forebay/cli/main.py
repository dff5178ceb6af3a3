"""The command `forebay`: what a person types, and what they are told when it goes wrong.

Commands import what they need when they run, so that `--help` answers at once.
"""

from typing import Annotated

import typer

from forebay import __version__
from forebay.cli import (
    accounts,
    check_monitoring,
    measuring,
    monitoring,
    receipts,
    serving,
    supply,
    usage,
)

app = typer.Typer(
    name="forebay",
    help="Serve a language model behind an OpenAI-compatible API.",
    epilog="Begin with: forebay serve",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(serving.commands)
app.add_typer(supply.commands)
app.add_typer(measuring.commands)
app.add_typer(check_monitoring.commands)
app.add_typer(monitoring.commands)
app.add_typer(accounts.commands)
app.add_typer(usage.commands)
app.add_typer(receipts.commands)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if wanted:
        typer.echo(f"forebay {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Serve a language model behind an OpenAI-compatible API."""


def main() -> None:
    """Run the command line; ends the process with its status."""
    app()


if __name__ == "__main__":
    main()
