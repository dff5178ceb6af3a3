"""The page of every command and option, read from the command line itself."""

from collections.abc import Iterator
from typing import Any

import typer.main

from forebay.cli.main import app

_HEAD = """\
# Command line

`forebay COMMAND --help` says the same in the terminal. Exit status: 0 when all went well, 2 when
what was typed or configured is wrong, 1 when it was right and could not be done.
"""


def cli_page() -> str:
    """Return a section per command."""
    group: Any = typer.main.get_command(app)  # click's types are typer's own business
    parts = [_HEAD]
    for name, command in group.commands.items():
        below = getattr(command, "commands", {})
        for last, one in below.items():
            parts += _section(f"{name} {last}", one)
        if not below:
            parts += _section(name, command)
    return "\n".join(parts).rstrip()


def _section(name: str, command: Any) -> Iterator[str]:  # noqa: ANN401 - as above
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    words = [each.metavar if each.required else f"[{each.metavar}]" for each in arguments]
    yield f"## forebay {' '.join([name, *words])}"
    yield ""
    yield " ".join(command.help.split())
    yield ""
    yield "| Option | What it does |"
    yield "| --- | --- |"
    for each in command.params:
        label = each.metavar if each in arguments else " ".join(filter(None, _spelling(each)))
        yield f"| `{label}` | {each.help} |"
    if command.epilog:
        yield from ("", "```", *_examples(command.epilog), "```")
    yield ""


def _spelling(option: Any) -> tuple[str, str | None]:  # noqa: ANN401 - as above
    return option.opts[0], option.metavar


def _examples(epilog: str) -> Iterator[str]:
    """Yield the commands of an epilog: its indented lines."""
    for line in epilog.splitlines():
        if line.startswith("  "):
            yield line.strip()
