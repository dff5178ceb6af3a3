"""Folders with safetensors or ONNX: taken whole and harmless, or refused by what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from forebay.engine.manifest import CHAT_TEMPLATE, Form, load_verified
from forebay.models.artefacts import Artefact
from forebay.models.catalogue import resolve
from forebay.models.preparation import prepare
from forebay.models.stages import PreparationError
from tests.support.models import an_ir_folder
from tests.support.weights import a_checkpoint, an_onnx_folder, zeros

INDEX = "model.safetensors.index.json"


def prepared(source: Path, form: Form) -> Artefact:
    cache = source.parent / "cache"
    return prepare(resolve(f"file:{source}"), form=form, cache=cache, progress=lambda _: None)


def names(artefact: Artefact) -> set[str]:
    return set(artefact.manifest.files)


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("shards", [1, 3])
def test_safetensors_are_taken_with_their_facts(tmp_path: Path, shards: int) -> None:
    artefact = prepared(a_checkpoint(tmp_path / "my-model", shards=shards), Form.SAFETENSORS)
    manifest = load_verified(artefact.path)
    assert (manifest.form, manifest.architecture) == (Form.SAFETENSORS, "llama")
    assert (manifest.layers, manifest.kv_heads, manifest.head_size) == (2, 2, 8)
    assert (manifest.width, manifest.vocabulary_size, manifest.eos_token_ids) == (32, 100, (2,))
    assert manifest.precision == "bf16"
    assert manifest.parameters == (34 if shards == 1 else 32 * shards)
    weights = [path for path in artefact.path.iterdir() if path.suffix == ".safetensors"]
    assert manifest.weights_bytes == sum(path.stat().st_size for path in weights)
    assert (INDEX in manifest.files) == (shards > 1)
    assert (artefact.path / CHAT_TEMPLATE).read_text() == "{{ messages }}"


def test_a_models_own_code_and_pickles_stay_outside(tmp_path: Path) -> None:
    artefact = prepared(a_checkpoint(tmp_path / "m"), Form.SAFETENSORS)
    assert names(artefact).isdisjoint({"modeling.py", "pytorch_model.bin"})
    assert "auto_map" not in (artefact.path / "config.json").read_text()


def test_onnx_is_taken_without_the_libraries_that_it_names(tmp_path: Path) -> None:
    artefact = prepared(an_onnx_folder(tmp_path / "m"), Form.ONNX)
    assert names(artefact) == {
        *("genai_config.json", "model.onnx", "model.onnx.data", "tokenizer.json")
    }
    config = json.loads((artefact.path / "genai_config.json").read_text())
    assert config["model"]["decoder"]["session_options"] == {
        "log_id": "onnxruntime-genai",
        "provider_options": [],
    }
    assert config["model"]["decoder"]["filename"] == "model.onnx"
    assert config["search"] == {"max_length": 512}
    manifest = artefact.manifest
    assert (manifest.architecture, manifest.context_tokens_max) == ("llama", 512)
    assert (manifest.eos_token_ids, manifest.width) == ((2, 3), 32)
    size = (artefact.path / "model.onnx").stat().st_size
    assert manifest.weights_bytes == size + 16


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (Form.SAFETENSORS, "model.safetensors"),
        (Form.SAFETENSORS, "tokenizer.json"),
        (Form.SAFETENSORS, "tokenizer_config.json"),
        (Form.ONNX, "model.onnx.data"),
        (Form.OPENVINO, "openvino_model.bin"),
    ],
)
def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, form: Form, name: str) -> None:
    made = {Form.SAFETENSORS: a_checkpoint, Form.ONNX: an_onnx_folder, Form.OPENVINO: an_ir_folder}
    source = made[form](tmp_path / "m")
    outside = tmp_path / "secret"
    (source / name).rename(outside)
    (source / name).symlink_to(outside)
    with pytest.raises(PreparationError, match=r"link that leads out.*cp -rL"):
        prepared(source, form)


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "../model.safetensors"}, "leads out"),
        ({"a": "/etc/passwd.safetensors"}, "leads out"),
        ({"a": "a\0.safetensors"}, "is no file's name"),
        ({"a": "a\\b.safetensors"}, "is no file's name"),
        ({"a": f"{'a' * 5_000}.safetensors"}, "is no file's name"),
        ({"a": "model.bin"}, "no safetensors file"),
        ({"a": "absent.safetensors"}, "lacks 'absent.safetensors'"),
        ({"layer.9": "model-00001-of-00002.safetensors"}, "and it does not"),
        ({"layer.2": "model-00001-of-00002.safetensors"}, "and it does not"),
        ({}, "names 0 files"),
        ({"a": 1}, "not the JSON"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, weight_map: object, words: str) -> None:
    source = a_checkpoint(tmp_path / "m", shards=2)
    (source / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(PreparationError, match=words):
        prepared(source, Form.SAFETENSORS)


def test_two_shards_with_one_tensor_are_refused(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "m", shards=2)
    for number in (1, 2):
        path = source / f"model-0000{number}-of-00002.safetensors"
        path.write_bytes(zeros({"layer.1": (2,), f"layer.{number}x": (2,)}))
    with pytest.raises(PreparationError, match="both hold tensor 'layer"):
        prepared(source, Form.SAFETENSORS)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"location": "../secret"}, "leads out"),
        ({"location": "/etc/passwd"}, "leads out"),
        ({"location": "sub/weights"}, "leads out"),
        ({"location": ""}, "leads out"),
        ({"location": "absent.data"}, "lacks 'absent.data'"),
        ({"location": "tokenizer.json"}, "bytes 0 to 16"),
        ({"offset": 8}, "bytes 8 to 24"),
    ],
)
def test_weights_that_are_not_beside_the_model_are_refused(
    tmp_path: Path, beside: dict[str, Any], words: str
) -> None:
    source = an_onnx_folder(tmp_path / "m", **beside)
    (tmp_path / "secret").write_bytes(bytes(16))
    if beside.get("location") == "tokenizer.json":
        (source / "tokenizer.json").write_text("{}")
    with pytest.raises(PreparationError, match=words):
        prepared(source, Form.ONNX)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoder": None}, "describes no decoder"),
        ({"vision": {"filename": "v.onnx"}}, "'vision'"),
        ({"context_length": "many"}, "does not describe"),
        ({"vocab_size": None}, "does not describe"),
        ({"eos_token_id": None}, "does not describe"),
    ],
)
def test_a_genai_config_that_is_none_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    source = an_onnx_folder(tmp_path / "m")
    path = source / "genai_config.json"
    config = json.loads(path.read_text())
    change(path, model={**config["model"], **changes})
    with pytest.raises(PreparationError, match=words):
        prepared(source, Form.ONNX)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filename": "../model.onnx"}, "leads out"),
        ({"filename": "model.bin"}, "must be an .onnx"),
        ({"pipeline": [{"embedding": {"filename": "e.onnx"}}]}, "'pipeline'"),
        ({"num_attention_heads": 0, "head_size": 0}, "does not describe"),
    ],
)
def test_a_decoder_that_is_none_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    source = an_onnx_folder(tmp_path / "m")
    path = source / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"].update(changes)
    path.write_text(json.dumps(config))
    with pytest.raises(PreparationError, match=words):
        prepared(source, Form.ONNX)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": -1},
        {"vocab_size": 1 << 62},
        {"head_dim": -64},
        {"num_key_value_heads": 1 << 40},
        {"eos_token_id": -2},
        {"eos_token_id": list(range(70_000))},
        {"bos_token_id": 1 << 40},
    ],
)
def test_numbers_that_no_model_has_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    source = a_checkpoint(tmp_path / "m")
    change(source / "config.json", **changes)
    with pytest.raises(PreparationError, match="numbers that none can have"):
        prepared(source, Form.SAFETENSORS)


def test_json_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "m")
    (source / "config.json").write_text('{"a":' * 200_000)
    with pytest.raises(PreparationError, match=r"config\.json"):
        prepared(source, Form.SAFETENSORS)
    with (source / "tokenizer.json").open("wb") as file:
        file.truncate(65 << 20)
    a_config = a_checkpoint(tmp_path / "other") / "config.json"
    (source / "config.json").write_text(a_config.read_text())
    with pytest.raises(PreparationError, match="larger than any known"):
        prepared(source, Form.SAFETENSORS)


def test_a_mislabelled_file_is_named_by_what_it_is(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "m")
    (source / "model.safetensors").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(PreparationError, match="it is a GGUF"):
        prepared(source, Form.SAFETENSORS)


@pytest.mark.parametrize(
    ("held", "wanted", "words"),
    [
        ("safetensors", Form.GGUF, "has safetensors .* gguf is made from a GGUF"),
        ("onnx", Form.SAFETENSORS, "has ONNX"),
        ("openvino", Form.ONNX, "has an OpenVINO IR .*--engine openvino"),
    ],
)
def test_a_form_that_cannot_be_made_is_refused_with_the_engines_that_can_load_it(
    tmp_path: Path, held: str, wanted: Form, words: str
) -> None:
    made = {"safetensors": a_checkpoint, "onnx": an_onnx_folder, "openvino": an_ir_folder}
    with pytest.raises(PreparationError, match=words):
        prepared(made[held](tmp_path / "m"), wanted)


def test_a_folder_with_pickles_alone_is_refused_by_their_names(tmp_path: Path) -> None:
    source = tmp_path / "m"
    source.mkdir()
    (source / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(PreparationError, match=r"pytorch_model\.bin are pickles"):
        prepared(source, Form.SAFETENSORS)


def test_two_forms_of_one_source_lie_beside_each_other(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "m")
    for name in ("genai_config.json", "model.onnx", "model.onnx.data"):
        content = (an_onnx_folder(tmp_path / name) / name).read_bytes()
        (source / name).write_bytes(content)
    first, second = prepared(source, Form.SAFETENSORS), prepared(source, Form.ONNX)
    assert (first.manifest.form, second.manifest.form) == (Form.SAFETENSORS, Form.ONNX)
    assert first.path != second.path
    assert prepared(source, Form.SAFETENSORS) == first
