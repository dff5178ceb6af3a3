"""What the hub sends is what it promised, or it is refused."""

from pathlib import Path

import pytest

from forebay.engine.manifest import Form
from forebay.models import hub
from forebay.models.sources import HubSource, parse
from forebay.models.stages import PreparationError, Progress
from tests.support.hub import COMMIT, serving

GGUF = {"README.md": b"#", "model-Q8.gguf": b"GGUF" * 50_000, "pytorch_model.bin": b"\x80"}


def a_source(uri: str) -> HubSource:
    source = parse(uri)
    assert isinstance(source, HubSource)
    return source


def test_the_only_gguf_is_chosen_and_fetched_with_progress(tmp_path: Path) -> None:
    told: list[Progress] = []
    with serving(GGUF) as stand_in:
        listing = hub.list_files(
            a_source("hf:org/repo"), endpoint=stand_in.address, form=Form.OPENVINO
        )
        hub.fetch(listing, endpoint=stand_in.address, folder=tmp_path, report=told.append)
    assert (listing.files[0].name, listing.commit) == ("model-Q8.gguf", COMMIT)
    assert (tmp_path / "model-Q8.gguf").read_bytes() == GGUF["model-Q8.gguf"]
    assert told[-1].done == told[-1].total == 200_000
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)


def test_nothing_else_is_fetched(tmp_path: Path) -> None:
    with serving(GGUF) as stand_in:
        listing = hub.list_files(
            a_source("hf:org/repo"), endpoint=stand_in.address, form=Form.OPENVINO
        )
        hub.fetch(listing, endpoint=stand_in.address, folder=tmp_path, report=lambda _: None)
    assert not any(path.endswith((".bin", ".md")) for path in stand_in.asked)


def test_a_revision_is_asked_for() -> None:
    with serving(GGUF) as stand_in:
        hub.list_files(a_source("hf:org/repo@v2"), endpoint=stand_in.address, form=Form.OPENVINO)
    assert any(path.endswith("/revision/v2") for path in stand_in.asked)


def test_an_ir_is_fetched_with_its_tokenizer_and_without_the_rest() -> None:
    names = ["openvino_model.xml", "openvino_model.bin", "tokenizer.json", "config.json"]
    files = dict.fromkeys([*names, "modeling.py", "sub/openvino_model.xml"], b"x")
    with serving(files) as stand_in:
        listing = hub.list_files(
            a_source("hf:org/repo"), endpoint=stand_in.address, form=Form.OPENVINO
        )
    assert sorted(file.name for file in listing.files) == sorted(names)
    assert listing.form is Form.OPENVINO


TEXT = ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
OTHERS = ["modeling.py", "pytorch_model.bin", "README.md", "sub/model.safetensors", "tf_model.h5"]


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (Form.SAFETENSORS, [*TEXT, *SHARDS, "model.safetensors.index.json"]),
        (Form.SAFETENSORS, [*TEXT, "model.safetensors"]),
        (Form.ONNX, [*TEXT, "genai_config.json", "model.onnx", "model.onnx.data"]),
    ],
)
def test_weights_are_fetched_with_their_text_rules_and_without_code(
    tmp_path: Path, form: Form, names: list[str]
) -> None:
    with serving(dict.fromkeys([*names, *OTHERS], b"x")) as stand_in:
        listing = hub.list_files(a_source("hf:org/repo"), endpoint=stand_in.address, form=form)
        hub.fetch(listing, endpoint=stand_in.address, folder=tmp_path, report=lambda _: None)
    assert listing.form is form
    assert sorted(file.name for file in listing.files) == sorted(names)
    fetched = [path.rpartition("/")[2] for path in stand_in.asked if "/resolve/" in path]
    assert sorted(set(fetched)) == sorted(names)


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        (Form.OPENVINO, Form.OPENVINO),
        (Form.SAFETENSORS, Form.SAFETENSORS),
        (Form.GGUF, Form.GGUF),
        (Form.ONNX, Form.SAFETENSORS),
    ],
)
def test_of_several_forms_the_nearest_is_fetched(wanted: Form, held: Form) -> None:
    names = ["openvino_model.xml", "model.safetensors", "model.gguf", "config.json"]
    with serving(dict.fromkeys(names, b"x")) as stand_in:
        listing = hub.list_files(a_source("hf:org/repo"), endpoint=stand_in.address, form=wanted)
    assert listing.form is held


@pytest.mark.parametrize("name", ["../../evil.gguf", "/evil.gguf", "a/../../evil.gguf"])
def test_a_file_whose_name_leads_out_of_the_repository_is_not_there(name: str) -> None:
    with (
        serving({name: b"GGUF"}) as stand_in,
        pytest.raises(PreparationError, match="no weights that are opened"),
    ):
        hub.list_files(a_source("hf:org/repo"), endpoint=stand_in.address, form=Form.GGUF)


@pytest.mark.parametrize(
    ("uri", "files", "words"),
    [
        ("hf:org/repo", {"a.gguf": b"1", "b.gguf": b"2"}, "a.gguf, b.gguf"),
        ("hf:org/repo#c.gguf", {"a.gguf": b"1"}, "there are: a.gguf"),
        (
            "hf:org/repo",
            {"model.onnx": b"1", "genai_config.json": b"{}"},
            "has ONNX .* made from an OpenVINO IR",
        ),
        ("hf:org/repo", {"pytorch_model.bin": b"1"}, "pytorch_model.bin are pickles"),
        ("hf:org/other", {}, "no such repository"),
    ],
)
def test_a_repository_that_cannot_be_prepared_is_refused_with_what_it_has(
    uri: str, files: dict[str, bytes], words: str
) -> None:
    with serving(files) as stand_in, pytest.raises(PreparationError, match=words):
        hub.list_files(a_source(uri), endpoint=stand_in.address, form=Form.OPENVINO)


def test_a_file_with_another_digest_than_promised_is_refused_and_removed(tmp_path: Path) -> None:
    with serving(GGUF) as stand_in:
        stand_in.digests["model-Q8.gguf"] = "0" * 64
        listing = hub.list_files(
            a_source("hf:org/repo"), endpoint=stand_in.address, form=Form.OPENVINO
        )
        with pytest.raises(PreparationError, match="arrived damaged"):
            hub.fetch(listing, endpoint=stand_in.address, folder=tmp_path, report=lambda _: None)
    assert not (tmp_path / "model-Q8.gguf").exists()


def test_a_hub_that_does_not_answer_is_said_so() -> None:
    with serving({}) as stand_in:
        gone = stand_in.address
    with pytest.raises(PreparationError, match="Check the network"):
        hub.list_files(a_source("hf:org/repo"), endpoint=gone, form=Form.OPENVINO)
