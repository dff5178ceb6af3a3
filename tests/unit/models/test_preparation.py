"""A prepared model is whole, verified, made once, and refused when it was touched."""

import shutil
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from forebay.engine.manifest import CHAT_TEMPLATE, MANIFEST, ArtefactError, Form, load_verified
from forebay.models import ir_folder, preparation
from forebay.models.artefacts import Artefact, places
from forebay.models.catalogue import ModelEntry, resolve
from forebay.models.preparation import prepare
from forebay.models.source_folder import SourceFolder
from forebay.models.stages import PreparationError, Progress, Stage
from tests.support.hub import serving
from tests.support.models import an_ir_folder


def prepared(source: Path, cache: Path) -> Artefact:
    return prepare(
        resolve(f"file:{source}"), form=Form.OPENVINO, cache=cache, progress=lambda _: None
    )


def test_a_folder_with_an_ir_is_taken_with_its_facts(tmp_path: Path) -> None:
    artefact = prepared(an_ir_folder(tmp_path / "my-model"), tmp_path / "cache")
    manifest = load_verified(artefact.path)
    assert manifest == artefact.manifest
    assert (manifest.name, manifest.context_tokens_max) == ("my-model", 2_048)
    assert (manifest.layers, manifest.kv_heads, manifest.head_size) == (4, 2, 64)
    assert (manifest.eos_token_ids, manifest.bos_token_id) == ((2,), 1)
    assert manifest.special_tokens == {"<|im_end|>": 2}
    assert (artefact.path / CHAT_TEMPLATE).read_text() == "{{ messages }}"


def test_the_second_time_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = an_ir_folder(tmp_path / "m")
    first = prepared(source, tmp_path / "cache")
    monkeypatch.setattr(ir_folder, "take", None)
    assert prepared(source, tmp_path / "cache") == first


def test_a_source_that_changed_is_prepared_anew(tmp_path: Path) -> None:
    source = an_ir_folder(tmp_path / "m")
    first = prepared(source, tmp_path / "cache")
    (source / "openvino_model.bin").write_bytes(b"other weights")
    assert prepared(source, tmp_path / "cache").path != first.path


@pytest.mark.parametrize("name", ["openvino_model.bin", "tokenizer.json", CHAT_TEMPLATE])
def test_one_changed_byte_is_refused_with_the_fix(tmp_path: Path, name: str) -> None:
    source = an_ir_folder(tmp_path / "m")
    path = prepared(source, tmp_path / "cache").path / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PreparationError, match=r"changed after.*Remove the folder"):
        prepared(source, tmp_path / "cache")


@pytest.mark.parametrize("name", ["openvino_model.bin", MANIFEST])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    artefact = prepared(an_ir_folder(tmp_path / "m"), tmp_path / "cache")
    (artefact.path / name).unlink()
    with pytest.raises(ArtefactError, match="forebay pull"):
        load_verified(artefact.path)


@pytest.mark.parametrize(
    ("old", "new"), [('"format": 2', '"format": 99'), ("{", ""), ('"layers"', '"layer"')]
)
def test_a_manifest_of_another_kind_is_refused(tmp_path: Path, old: str, new: str) -> None:
    artefact = prepared(an_ir_folder(tmp_path / "m"), tmp_path / "cache")
    path = artefact.path / MANIFEST
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ArtefactError, match="Remove the folder"):
        load_verified(artefact.path)


def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    artefact = prepared(an_ir_folder(tmp_path / "m"), tmp_path / "cache")
    path = artefact.path / MANIFEST
    shutil.copy(artefact.path / "tokenizer.json", artefact.path.parent)
    path.write_text(path.read_text().replace('"tokenizer.json"', '"../tokenizer.json"'))
    with pytest.raises(ArtefactError, match="lacks"):
        load_verified(artefact.path)


def test_a_failure_leaves_nothing_that_could_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = an_ir_folder(tmp_path / "m"), tmp_path / "cache"

    def fail_late(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "write_manifest", fail_late)
    with pytest.raises(KeyboardInterrupt):
        prepared(source, cache)
    assert not list((cache / "work").iterdir())
    assert not (cache / "models").exists()


def test_what_a_killed_preparation_left_is_cleared_away(tmp_path: Path) -> None:
    source, cache = an_ir_folder(tmp_path / "m"), tmp_path / "cache"
    left = places(cache, resolve(f"file:{source}"), Form.OPENVINO).work / "out"
    left.mkdir(parents=True)
    (left / "half.bin").write_bytes(b"x")
    assert "half.bin" not in prepared(source, cache).manifest.files


def test_two_at_once_prepare_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, cache = an_ir_folder(tmp_path / "m"), tmp_path / "cache"
    inside, go_on, waits = threading.Event(), threading.Event(), threading.Event()
    taken: list[Path] = []
    take = ir_folder.take

    def slowly(folder: SourceFolder, target: Path, report: object) -> object:
        taken.append(folder.path)
        inside.set()
        assert go_on.wait(10)
        return take(folder, target, report)  # type: ignore[arg-type]  # passed on as it came

    def second(progress: Progress) -> None:
        if progress.stage is Stage.WAIT:
            waits.set()
            go_on.set()

    monkeypatch.setattr(ir_folder, "take", slowly)
    first = threading.Thread(target=prepared, args=(source, cache))
    first.start()
    assert inside.wait(10)
    artefact = prepare(resolve(f"file:{source}"), form=Form.OPENVINO, cache=cache, progress=second)
    first.join()
    assert waits.is_set()
    assert taken == [source]
    load_verified(artefact.path)


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def test_too_little_space_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, 12_000_000))
    entry = resolve("hf:org/repo")
    with (
        serving({"m.gguf": bytes(20_000_000)}) as hub,
        pytest.raises(PreparationError, match="20 MB and 12 MB is free"),
    ):
        prepare(
            entry,
            form=Form.OPENVINO,
            cache=tmp_path,
            progress=lambda _: None,
            hub_endpoint=hub.address,
        )
    assert not any("/resolve/" in path for path in hub.asked)


def test_another_digest_than_the_catalogue_says_is_refused_and_thrown_away(
    tmp_path: Path,
) -> None:
    entry = ModelEntry(name="m", source="hf:org/repo", sha256="0" * 64)
    with serving({"m.gguf": b"GGUF"}) as hub, pytest.raises(PreparationError, match="0000"):
        prepare(
            entry,
            form=Form.OPENVINO,
            cache=tmp_path,
            progress=lambda _: None,
            hub_endpoint=hub.address,
        )
    assert not any(path.is_file() for path in (tmp_path / "sources").rglob("*"))


@pytest.mark.parametrize(
    ("name", "words"),
    [("none.gguf", "There is no"), ("model.pkl", "only data is"), ("model.onnx", "is not a GGUF")],
)
def test_a_local_file_that_is_no_gguf_is_refused(tmp_path: Path, name: str, words: str) -> None:
    if name != "none.gguf":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PreparationError, match=words):
        prepared(tmp_path / name, tmp_path / "cache")


@pytest.mark.parametrize("name", ["openvino_model.xml", "tokenizer.json", "config.json"])
def test_a_folder_that_lacks_something_is_refused_by_name(tmp_path: Path, name: str) -> None:
    source = an_ir_folder(tmp_path / "m")
    (source / name).unlink()
    with pytest.raises(PreparationError, match=name):
        prepared(source, tmp_path / "cache")


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"num_attention_heads": 0}'])
def test_a_folder_whose_facts_are_no_facts_is_refused(tmp_path: Path, text: str) -> None:
    source = an_ir_folder(tmp_path / "m")
    (source / "config.json").write_text(text)
    with pytest.raises(PreparationError, match=r"config\.json"):
        prepared(source, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    source = an_ir_folder(tmp_path / "m")
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(PreparationError, match="cache folder cannot be used"):
        prepared(source, tmp_path / "cache")


def test_a_copy_in_another_place_still_loads(tmp_path: Path) -> None:
    artefact = prepared(an_ir_folder(tmp_path / "m"), tmp_path / "cache")
    moved = shutil.copytree(artefact.path, tmp_path / "elsewhere")
    assert load_verified(Path(moved)) == artefact.manifest
