"""Which engine `auto` takes."""

import contextlib
from pathlib import Path

import pytest

from forebay.engine.registry import find, names
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


def ranking(*, gpu: bool) -> tuple[str, ...]:
    """Return what is taken where nobody knows the source, the next one once that is not there."""
    found: list[str] = []
    with contextlib.suppress(PreparationError):
        while True:
            found.append(choose(HUB, gpu=gpu, runnable=lambda name: name not in found))
    return tuple(found)


def test_engines_are_taken_in_the_order_that_their_page_tells() -> None:
    page = " ".join((Path(__file__).parents[3] / "docs" / "engines.md").read_text().split())
    cpu, gpu = ", ".join(ranking(gpu=False)), ", ".join(ranking(gpu=True))
    assert f"without an NVIDIA GPU {cpu}, in this order; with one {gpu}." in page


def test_every_engine_that_loads_weights_is_among_them() -> None:
    kinds = {name: find(name) for name in names()}
    assert set(ranking(gpu=True)) == {name for name, kind in kinds.items() if kind.form}


def test_one_that_can_make_nothing_of_the_source_is_passed_over(tmp_path: Path) -> None:
    source = folder(tmp_path, "genai_config.json", "model.onnx")
    assert choose(source, gpu=False, runnable=lambda _: True) == "onnx"


def test_of_a_repository_that_nobody_fetched_the_best_is_tried() -> None:
    assert choose(HUB, gpu=False, runnable=lambda name: name != "openvino") == "llamacpp"


def test_where_nobody_can_load_it_the_best_says_why(tmp_path: Path) -> None:
    empty = folder(tmp_path)
    assert choose(empty, gpu=False, runnable=lambda name: name == "onnx") == "onnx"
    assert choose(empty, gpu=False, runnable=lambda _: True) == "openvino"


def test_without_any_engine_one_is_told_how_to_get_one() -> None:
    with pytest.raises(PreparationError, match="pip install 'forebay"):
        choose(GGUF, gpu=False, runnable=lambda _: False)
