"""`forebay receipt`: where one request's time went, drawn in the terminal."""

from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from forebay.cli.loading import FAILURE, USAGE, fail
from forebay.cli.tables import AsJson, print_json

_EXAMPLES = """\b
Examples:
  forebay receipt 4f1c6a52d0e94a7bb3c1
  forebay receipt 4f1c6a52d0e94a7bb3c1 --json
"""
_BAR: Final = 48
"""Characters of the whole time."""
_ANSWER_S_MAX: Final = 10.0
_DENIED: Final = (401, 403)
_ID_CHARACTERS_MAX: Final = 160
_COLOURS: Final = {
    **dict.fromkeys(("wait", "lookup", "load", "queue"), typer.colors.YELLOW),
    **dict.fromkeys(("prefill", "decode", "join", "replay", "items"), typer.colors.GREEN),
}

commands = typer.Typer()


@commands.command(epilog=_EXAMPLES)
def receipt(
    request_id: Annotated[
        str, typer.Argument(metavar="ID", help="The answer's header x-request-id.")
    ],
    *,
    url: Annotated[str, typer.Option(metavar="URL", help="The server.")] = "http://127.0.0.1:8000",
    key: Annotated[
        str,
        typer.Option(envvar="FOREBAY_KEY", metavar="KEY", help="API key, in closed mode."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show where a request's time went, what was decided about it, and what it cost."""
    found = _read(url, request_id, key)
    if as_json:
        print_json(found)
    else:
        _draw(found)


def _read(url: str, request_id: str, key: str) -> dict[str, Any]:
    """Ask the server; ends the program where it has no receipt."""
    from forebay.monitoring.site import Unanswered, WrongUrl, site  # noqa: PLC0415 - see main

    try:
        server = site(url, timeout_s=_ANSWER_S_MAX, token=key)
        answer = server.get(f"/v1/requests/{quote(request_id[:_ID_CHARACTERS_MAX], safe='')}")
        found = answer.data()
    except WrongUrl as error:
        fail(f"--url: {error}", status=USAGE)
    except Unanswered as error:
        fail(str(error), status=FAILURE)
    if not (answer.well and isinstance(found, dict) and "parts" in found):
        fail(_said(found, answer.status), status=FAILURE)
    return found


def _said(found: object, status: int) -> str:
    """Return what the server said of its refusal."""
    try:
        message = _plain(found["error"]["message"])  # type: ignore[index]  # or it says nothing
    except (KeyError, TypeError):
        message = f"The server answers {status}, and has no receipts."
    return f"{message} Set FOREBAY_KEY, or give --key." if status in _DENIED else message


def _draw(found: dict[str, Any]) -> None:
    tone = typer.colors.GREEN if found["outcome"] == "ok" else typer.colors.RED
    outcome = typer.style(f"{found['outcome']} {found['status']}", fg=tone, bold=True)
    ended = "" if found["ended_in"] == "flush" else f", ended in {found['ended_in']}"
    typer.echo(f"{_plain(found['id'])}  {outcome} after {found['total_ms']:,.2f} ms{ended}")
    about = (found["began_at"], found["route"], found["model"])
    typer.echo("  ".join(_plain(each) for each in about if each) + "\n")
    for part in found["parts"]:
        typer.echo(_line(part, found["total_ms"]))
    typer.echo()
    for name, text in _facts(found):
        typer.echo(f"  {name:<20} {_plain(text)}")


def _line(part: dict[str, Any], total_ms: float) -> str:
    """Draw one part where it lies in the whole."""
    scale = _BAR / total_ms if total_ms else 0.0
    start = min(round(part["start_ms"] * scale), _BAR - 1)
    length = max(1, round((part["start_ms"] + part["duration_ms"]) * scale) - start)
    bar = "█" * min(length, _BAR - start)
    colour = _COLOURS.get(part["part"], typer.colors.BLUE)
    drawn = " " * start + typer.style(bar, fg=colour) + " " * (_BAR - start - len(bar))
    return f"  {part['part']:<8} {drawn} {part['duration_ms']:>12,.2f} ms"


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what else is known, in words."""
    facts = [(name.replace("_", " "), _words(value)) for name, value in found["decisions"].items()]
    if first := found["first_token"]:
        actual, forecast = (
            "unknown" if first[name] is None else f"{first[name]:,.2f} ms"
            for name in ("actual_ms", "forecast_ms")
        )
        facts.append(("first token", f"{actual}; forecast at the door: {forecast}"))
    if tokens := found["tokens"]:
        facts.append(("tokens", f"{tokens['prompt']} prompt, {tokens['completion']} completion"))
    facts.append(("event loop stalled", f"{found['loop_stall_ms']:,.2f} ms"))
    facts.append(("bytes", f"{found['body_bytes']} in, {found['answer_bytes']} out"))
    named = ("tenant", "user", "cost", "part_of", "items", "error")
    return facts + [(name.replace("_", " "), _words(found[name])) for name in named if found[name]]


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(text: object) -> str:
    """Return a text that cannot steer a terminal."""
    return "".join(each if each.isprintable() else "?" for each in str(text))
