"""Whatever stands in a folder's JSON files, it is taken or refused: nothing else is raised."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forebay.models import checkpoint_folder, ir_folder, onnx_folder
from forebay.models.source_folder import SourceFolder
from forebay.models.stages import PreparationError, Report
from tests.support.models import an_ir_folder
from tests.support.weights import a_checkpoint, an_onnx_folder

ODD: list[Any] = [
    *(None, -1, 0, 1, 1 << 70, 1.5, True, "", "x", "../x"),
    *([], [1], [None], [[]], [{}], {}, {"a": 1}),
]
TAKERS: dict[str, tuple[Callable[[Path], Path], Callable[[SourceFolder, Path, Report], object]]] = {
    "safetensors": (a_checkpoint, checkpoint_folder.take),
    "onnx": (an_onnx_folder, onnx_folder.take),
    "openvino": (an_ir_folder, ir_folder.take),
}


def change(document: dict[str, Any], source: random.Random) -> None:
    key = source.choice(sorted(document))
    if isinstance(document[key], dict) and document[key] and source.random() < 0.6:
        change(document[key], source)
    elif source.random() < 0.15:
        del document[key]
    else:
        document[key] = source.choice(ODD)


@pytest.mark.parametrize("kind", TAKERS)
def test_odd_values_are_taken_or_refused(tmp_path: Path, kind: str) -> None:
    make, take = TAKERS[kind]
    whole = make(tmp_path / "whole")
    names = sorted(path.name for path in whole.glob("*.json"))
    refused = 0
    for seed in range(120):
        source, folder, out = random.Random(seed), tmp_path / "m", tmp_path / "out"
        shutil.copytree(whole, folder)
        out.mkdir()
        path = folder / source.choice(names)
        document = json.loads(path.read_text())
        for _ in range(source.randint(1, 2)):
            if document:
                change(document, source)
        path.write_text(json.dumps(document))
        try:
            take(SourceFolder(folder, ours=False), out, lambda _: None)
        except PreparationError:
            refused += 1
        shutil.rmtree(folder)
        shutil.rmtree(out)
    assert 20 < refused < 120
