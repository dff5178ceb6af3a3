"""`forebay serve` and `forebay config`."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.loading import Assignments, ConfigFile, fail, loaded
from forebay.cli.offering import offered
from forebay.cli.supply import MODEL_HELP

if TYPE_CHECKING:
    from forebay.app import Service
    from forebay.fleet import ServedModel
    from forebay.serve.lanes import Lane
    from forebay.serve.signals import Signals
    from forebay.settings import LiveSettings, Loaded, Settings


_EXAMPLES = """\b
Examples:
  forebay serve
  forebay serve hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF --port 9000
  forebay serve --engine scripted --set scripted.decode_s=0.02
"""

commands = typer.Typer()


@commands.command(epilog=_EXAMPLES)
def serve(  # noqa: PLR0913 - a command's options are its parameters
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help=f"{MODEL_HELP} Default: smollm2-135m-instruct.",
            show_default=False,
        ),
    ] = None,
    *,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="openvino, llamacpp, onnx, transformers, vllm, upstream (a server elsewhere), or "
            "scripted (no model). Default: the best that is installed.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", help="Port to listen on; 0 takes a free one. Default: 8000."
        ),
    ] = None,
    dev: Annotated[
        bool,
        typer.Option("--dev", help="Let passwords be that everybody knows; for development only."),
    ] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Serve a model behind an OpenAI-compatible API.

    The first start fetches the model and prepares it, once; later starts need no network.
    Ctrl-C or SIGTERM stops the server: running requests finish first. SIGHUP makes it read its
    settings again.
    """
    from forebay.serve.signals import Signals  # noqa: PLC0415 - see main
    from forebay.settings import LiveSettings  # noqa: PLC0415 - see main

    signals = Signals()
    signals.expect()
    flags: dict[str, tuple[str, object]] = {
        "model.name": ("the MODEL argument", model),
        "engine.name": ("--engine", engine),
        "server.host": ("--host", host),
        "server.port": ("--port", port),
        "access.dev": ("--dev", dev or None),
    }
    found = loaded(config, assignments, flags)
    models = offered(found)
    loading = [each.name for each in models if each.preload and each.folder is not None]
    if loading:
        typer.echo(f"Loading {', '.join(loading)} ...", err=True)
    settings = _settled(found.settings, models)
    raise typer.Exit(_run(LiveSettings(settings, found), models, signals))


def _settled(settings: "Settings", models: "list[ServedModel]") -> "Settings":
    """Return the settings with `auto` replaced by the engine that was chosen."""
    engine = dataclasses.replace(settings.engine, name=models[0].engine)
    return dataclasses.replace(settings, engine=engine)


def _run(live: "LiveSettings", models: "list[ServedModel]", signals: "Signals") -> int:
    """Serve until a signal; return the exit status."""
    from forebay import app, process  # noqa: PLC0415 - see main

    try:
        return process.run(live, models, signals=signals, announce=_announce)
    except app.StartRefused as refusal:
        fail(str(refusal))


@commands.command()
def config(
    config: ConfigFile = None,
    assignments: Assignments = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting's effective value, and where it came from."""
    found = loaded(config, assignments)
    if as_json:
        typer.echo(json.dumps(_as_data(found), indent=2))
        return
    from forebay.settings.loading import BY_DEFAULT  # noqa: PLC0415 - see main

    rows = [(each.setting.key, each.shown, each.set_by) for each in found.effective]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, set_by in rows:
        line = f"{key:<{widths[0]}}  {value:<{widths[1]}}  {set_by}"
        typer.echo(typer.style(line, bold=set_by != BY_DEFAULT))


def _as_data(found: "Loaded") -> dict[str, dict[str, object]]:
    return {
        each.setting.key: {
            "value": each.shown if each.setting.knob.secret else each.value,
            "set_by": each.set_by,
        }
        for each in found.effective
    }


def _announce(service: "Service") -> None:
    """Say what is served, where, and how to try it: on stderr, for the log has stdout."""
    server, lanes = service.settings.server, list(service.lanes)
    host = f"[{server.host}]" if ":" in server.host else server.host
    scheme = "https" if server.tls_certificate else "http"
    url = f"{scheme}://{host}:{server.port}"
    names = [listing.name for listing in service.lanes.listings]
    lines = [typer.style(f"Serving {', '.join(names)} at {url}", bold=True)]
    for lane in lanes:
        lines += _facts(lane, several=len(names) > 1)
    if asleep := [name for name in names if service.lanes.get(name) is None]:
        lines.append(f"  asleep   {', '.join(asleep)}: loaded when asked for")
    lines += [
        "  pages    /docs  /metrics  /readyz",
        *_access(service),
        "",
        "Try it:",
        _example(url, names[0], closed=service.tenancy is not None),
    ]
    typer.echo("\n".join(lines) + "\n", err=True)


def _access(service: "Service") -> list[str]:
    """Say who may use the server: loudly where everybody may."""
    tenancy = service.tenancy
    if tenancy is None:
        words = "OPEN: every program on this machine may use it, and nobody is asked who they are."
        return [typer.style(f"  access   {words}", fg=typer.colors.YELLOW, bold=True)]
    lines = ["  access   closed: callers show a key (`forebay keys create --user NAME`)"]
    if service.settings.access.dev:
        words = "--dev: passwords that everybody knows are let in."
        lines.append(typer.style(f"           {words}", fg=typer.colors.YELLOW, bold=True))
    if tenancy.first_password is not None:
        lines += [
            "",
            typer.style("The first user was made. Its password is shown this once:", bold=True),
            "  user     admin",
            f"  password {tenancy.first_password}",
        ]
    return lines


def _facts(lane: "Lane", *, several: bool) -> list[str]:
    info = lane.engine.info
    lines = [f"  model    {lane.name}"] if several else []
    lines.append(f"  engine   {info.name}" + (f": {info.detail}" if info.detail else ""))
    lines.append(
        f"  limits   {info.running_max} sequences at once, {info.context_tokens_max:,} tokens each"
    )
    if info.kv_bytes and "KV cache" not in info.detail:
        size = f"{info.kv_bytes / 1e6:,.0f} MB"
        lines.append(f"  memory   KV cache {size} for {info.kv_tokens_max:,} tokens")
    return lines


def _example(url: str, model: str, *, closed: bool) -> str:
    key = '    -H "authorization: Bearer $FOREBAY_KEY" \\\n' if closed else ""
    question = {"role": "user", "content": "What is the capital of France?"}
    body = json.dumps({"model": model, "temperature": 0, "messages": [question]})
    return (
        f"  curl {url}/v1/chat/completions \\\n"
        f"    -H 'content-type: application/json' \\\n{key}    -d '{body}'"
    )
