"""What the settings offer becomes what is served."""

from dataclasses import replace
from pathlib import Path

import pytest
import typer

from forebay.cli.offering import offered
from forebay.engine import registry
from forebay.engine.manifest import read_manifest
from forebay.fleet import ServedModel
from forebay.settings import Sources, load
from tests.support.weights import a_checkpoint, an_adapter

LIBRARY_BYTES = 400 << 20


@pytest.fixture(autouse=True)
def _every_library_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "runnable", lambda _: True)


def served(folder: Path, text: str, *assignments: str) -> list[ServedModel]:
    file = folder / "forebay.yaml"
    file.write_text(text)
    cache = f"model.cache={folder / 'cache'}"
    return offered(load(Sources(file=file, environ={}, assignments=(cache, *assignments))))


SCRIPTED = """\
models:
  chat:
    engine: scripted
    aliases: [gpt, default]
    options: {decode_s: 0.5}
    description: Speaks.
    workers: 3
    preload: false
    pinned: true
"""


def test_a_model_is_served_as_its_section_says(tmp_path: Path) -> None:
    (model,) = served(tmp_path, SCRIPTED)
    assert model == ServedModel(
        name="chat",
        engine="scripted",
        aliases=("gpt", "default"),
        options={"decode_s": 0.5},
        description="Speaks.",
        workers=3,
        preload=False,
        pinned=True,
    )


def test_a_model_that_is_named_beside_the_sections_comes_first(tmp_path: Path) -> None:
    models = served(tmp_path, SCRIPTED, "model.name=parrot", "engine.name=scripted")
    assert [model.name for model in models] == ["parrot", "chat"]


def test_a_model_that_is_named_twice_is_served_once_as_its_section_says(tmp_path: Path) -> None:
    named = ("model.name=chat", "engine.name=scripted")
    assert served(tmp_path, SCRIPTED, *named) == served(tmp_path, SCRIPTED)


@pytest.mark.parametrize("taken", ["gpt", "by-route"])
def test_a_model_cannot_be_named_as_an_alias_or_a_route_is(
    taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = (f"model.name={taken}", "engine.name=scripted", "routes.by-route.split=chat=1")
    with pytest.raises(typer.Exit):
        served(tmp_path, SCRIPTED, *named)
    assert f"{taken} is an alias under models, or a route" in capsys.readouterr().err


def test_an_engine_whose_library_is_not_installed_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "runnable", lambda _: False)
    with pytest.raises(typer.Exit):
        served(tmp_path, SCRIPTED)
    assert "pip install 'forebay[scripted]'" in capsys.readouterr().err


def test_an_engine_without_weights_takes_no_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        served(tmp_path, SCRIPTED, "models.chat.versions.v2=file:/adapter")
    assert "models.chat.versions: the engine scripted takes no" in capsys.readouterr().err


def a_section(folder: Path, *lines: str) -> str:
    source = folder / "m"
    if not source.exists():
        a_checkpoint(source)
    given = [f"source: file:{source}", "engine: transformers", *lines]
    return "models:\n  chat:\n" + "".join(f"    {line}\n" for line in given)


def test_weights_are_prepared_and_their_adapters_checked(tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path / "polite")
    versions = f"versions: {{polite: 'file:{adapter}'}}"
    (model,) = served(tmp_path, a_section(tmp_path, versions, "workers: 3"))
    assert model.folder is not None
    manifest = read_manifest(model.folder)
    assert manifest.source == f"file:{tmp_path / 'm'}"
    assert model.bytes_needed == 3 * (manifest.weights_bytes + LIBRARY_BYTES)
    assert list(model.adapters) == ["polite"]
    assert (model.adapters["polite"] / "adapter_model.safetensors").is_file()
    (plain,) = served(tmp_path, a_section(tmp_path))
    assert plain == replace(
        model,
        adapters={},
        workers=0,
        bytes_needed=manifest.weights_bytes + LIBRARY_BYTES,
    )


def test_an_adapter_that_does_not_fit_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = an_adapter(tmp_path / "odd", peft_type="IA3")
    with pytest.raises(typer.Exit):
        served(tmp_path, a_section(tmp_path, f"versions: {{odd: 'file:{adapter}'}}"))
    assert "models.chat.versions.odd: " in capsys.readouterr().err


@pytest.mark.parametrize("where", ["models.chat.precision=int4", "model.precision=int4"])
def test_a_precision_is_asked_for_one_model_or_for_all(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        served(tmp_path, a_section(tmp_path), where)
    assert "precision: safetensors keeps what its source has" in capsys.readouterr().err
