"""What a model's matrices can be kept in."""

from pathlib import Path

import pytest

from forebay.engine.manifest import Form
from forebay.models.artefacts import places
from forebay.models.catalogue import ModelEntry
from forebay.models.precisions import OFFERED, require
from forebay.models.preparation import prepare
from forebay.models.stages import PreparationError
from tests.support.onnx_models import LLAMA, a_checkpoint
from tests.support.weights import an_onnx_folder


@pytest.mark.parametrize("form", list(Form))
def test_without_a_wish_every_form_has_its_own(form: Form) -> None:
    require(form, "")


@pytest.mark.parametrize("precision", ["int8", "int4", "float32"])
def test_onnx_leaves_a_choice(precision: str) -> None:
    require(Form.ONNX, precision)
    assert precision in OFFERED[Form.ONNX]


@pytest.mark.parametrize(
    ("form", "words"),
    [(Form.OPENVINO, "is made in int8; found int4"), (Form.GGUF, "keeps what its source has")],
)
def test_what_a_form_is_not_made_in_is_refused_with_who_can(form: Form, words: str) -> None:
    with pytest.raises(PreparationError, match=words) as refused:
        require(form, "int4")
    assert "engine onnx" in str(refused.value)


def test_it_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    entry = ModelEntry(name="m", source="hf:org/repo", precision="int3")
    with pytest.raises(PreparationError, match="found int3"):
        prepare(entry, form=Form.ONNX, cache=tmp_path, progress=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_source_that_is_finished_is_taken_as_it_is_or_not_at_all(tmp_path: Path) -> None:
    source = an_onnx_folder(tmp_path / "m")
    entry = ModelEntry(name="m", source=f"file:{source}", precision="int4")
    with pytest.raises(PreparationError, match="precision: the source is a finished onnx"):
        prepare(entry, form=Form.ONNX, cache=tmp_path / "cache", progress=lambda _: None)


def test_what_is_made_is_made_in_the_precision_that_was_wished_for(tmp_path: Path) -> None:
    source = a_checkpoint(tmp_path / "m", LLAMA)
    entry = ModelEntry(name="m", source=f"file:{source}", precision="float32")
    made = prepare(entry, form=Form.ONNX, cache=tmp_path / "cache", progress=lambda _: None)
    assert made.manifest.precision == "float32"


def test_each_precision_lies_in_a_place_of_its_own_and_is_fetched_once() -> None:
    found = [
        places(Path("/c"), ModelEntry(name="m", source="hf:a/b", precision=each), Form.ONNX)
        for each in ("", "int4")
    ]
    assert found[0].prepared != found[1].prepared
    assert found[0].source == found[1].source
