"""`forebay serve` and `forebay config`."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.loading import USAGE, Assignments, ConfigFile, fail, loaded
from forebay.cli.supply import MODEL_HELP, prepared

if TYPE_CHECKING:
    from forebay.app import ServedModel, Service
    from forebay.engine.registry import EngineKind
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
            help="openvino, or scripted: no model, for trying things out. Default: the best "
            "that is installed.",
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
    }
    found = loaded(config, assignments, flags)
    kind = _engine_of(found.settings)
    settings = dataclasses.replace(
        found.settings, engine=dataclasses.replace(found.settings.engine, name=kind.name)
    )
    served = _model_of(found, kind)
    if kind.form is not None:
        typer.echo(f"Loading {served.name} ...", err=True)
    raise typer.Exit(_run(LiveSettings(settings, found), served, signals))


def _run(live: "LiveSettings", served: "ServedModel", signals: "Signals") -> int:
    """Serve until a signal; return the exit status."""
    from forebay import app  # noqa: PLC0415 - see main

    try:
        return app.run(live, served, signals=signals, announce=_announce)
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


def _engine_of(settings: "Settings") -> "EngineKind":
    from importlib.util import find_spec  # noqa: PLC0415 - see main

    from forebay.engine import registry  # noqa: PLC0415 - see main

    name = settings.engine.name
    if name == "auto":
        name = "openvino"
        if find_spec("openvino_genai") is None:
            fail(
                "No engine library is installed. Run `pip install 'forebay[openvino]'`, or try "
                "--engine scripted, which needs none.",
                status=USAGE,
            )
    try:
        return registry.find(name)
    except ImportError as error:
        fail(f"The engine {name} cannot be imported: {error}. Install what it needs.")


def _model_of(found: "Loaded", kind: "EngineKind") -> "ServedModel":
    from forebay.app import ServedModel  # noqa: PLC0415 - see main
    from forebay.settings.loading import BY_DEFAULT  # noqa: PLC0415 - see main

    settings = found.settings
    if kind.form is not None:
        entry, artefact = prepared(settings.model)
        return ServedModel(name=artefact.manifest.name, folder=artefact.path, advice=entry.advice)
    # Without a model there is no name either, unless somebody chose one.
    (chosen,) = (each for each in found.effective if each.setting.key == "model.name")
    return ServedModel(name=kind.name if chosen.set_by == BY_DEFAULT else settings.model.name)


def _announce(service: "Service") -> None:
    """Say what is served, where, and how to try it: on stderr, for the log has stdout."""
    info, server = service.engine.info, service.settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    url = f"http://{host}:{server.port}"
    lines = [typer.style(f"Serving {service.model.name} at {url}", bold=True)]
    lines.append(f"  engine   {info.name}" + (f": {info.detail}" if info.detail else ""))
    lines.append(
        f"  limits   {info.running_max} sequences at once, {info.context_tokens_max:,} tokens each"
    )
    if info.kv_bytes and "KV cache" not in info.detail:
        size = f"{info.kv_bytes / 1e6:,.0f} MB"
        lines.append(f"  memory   KV cache {size} for {info.kv_tokens_max:,} tokens")
    lines += [
        "  pages    /docs  /metrics  /readyz",
        "",
        "Try it:",
        _example(url, service.model.name),
    ]
    typer.echo("\n".join(lines) + "\n", err=True)


def _example(url: str, model: str) -> str:
    question = {"role": "user", "content": "What is the capital of France?"}
    body = json.dumps({"model": model, "temperature": 0, "messages": [question]})
    return (
        f"  curl {url}/v1/chat/completions \\\n"
        f"    -H 'content-type: application/json' \\\n    -d '{body}'"
    )
