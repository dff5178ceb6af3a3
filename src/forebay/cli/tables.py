"""What commands show of the accounts: a table for people, or JSON."""

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_PIPE_COLUMNS: Final = 240


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int | None = None
) -> None:
    """Print a table whose first `words` columns (None: all) are words, and the others amounts."""
    table = Table(box=None, header_style="bold")
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if words is None or index < words else "right")
    for row in rows:
        table.add_row(*row)
    # A file or a pipe is not as narrow as a screen.
    Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(table)


def print_json(found: object) -> None:
    """Print what was found, indented."""
    typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


def say_if_cut(found: Sequence[object], most: int) -> None:
    """Say on stderr that a list is full, and may not be all there is."""
    if len(found) >= most:
        typer.echo(f"These are the first {most}; there may be more.", err=True)
