"""Which engine `auto` takes."""

from pathlib import Path

import pytest

from forebay.models.choosing import choose
from forebay.models.sources import FileSource, HubSource, PypiSource
from forebay.models.stages import PreparationError

GGUF = PypiSource(distribution="d", version="1", path="m/model.gguf")
HUB = HubSource(repository="org/repo")


def folder(place: Path, *names: str) -> FileSource:
    for name in names:
        (place / name).touch()
    return FileSource(path=place)


def test_the_best_for_a_cpu_is_taken_where_it_is_installed() -> None:
    assert choose(GGUF, gpu=False, runnable=lambda _: True) == "openvino"
    assert choose(GGUF, gpu=False, runnable=lambda name: name != "openvino") == "llamacpp"


def test_a_gpu_changes_who_is_best(tmp_path: Path) -> None:
    source = folder(tmp_path, "config.json", "model.safetensors")
    installed = {"openvino", "transformers"}
    assert choose(source, gpu=True, runnable=installed.__contains__) == "transformers"
    assert choose(source, gpu=False, runnable=installed.__contains__) == "openvino"


def test_one_that_can_make_nothing_of_the_source_is_passed_over(tmp_path: Path) -> None:
    source = folder(tmp_path, "genai_config.json", "model.onnx")
    assert choose(source, gpu=False, runnable=lambda _: True) == "onnx"


def test_of_a_repository_that_nobody_fetched_the_best_is_tried() -> None:
    assert choose(HUB, gpu=False, runnable=lambda name: name != "openvino") == "llamacpp"


def test_where_nobody_can_load_it_the_best_says_why(tmp_path: Path) -> None:
    assert choose(folder(tmp_path), gpu=False, runnable=lambda name: name == "onnx") == "onnx"


def test_without_any_engine_one_is_told_how_to_get_one() -> None:
    with pytest.raises(PreparationError, match="pip install 'forebay"):
        choose(GGUF, gpu=False, runnable=lambda _: False)
