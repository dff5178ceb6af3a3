"""A source address is one of three forms, and never names code or a pickle."""

from pathlib import Path

import pytest

from forebay.models.catalogue import DEFAULT, names, resolve
from forebay.models.sources import FileSource, HubSource, PypiSource, Source, check_name, parse
from forebay.models.stages import PreparationError


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        (
            "pypi:a-b==1.0#x/y.gguf",
            PypiSource(distribution="a-b", version="1.0", path="x/y.gguf"),
        ),
        ("hf:org/repo", HubSource(repository="org/repo")),
        ("hf:org/repo@v1", HubSource(repository="org/repo", revision="v1")),
        (
            "hf:org/repo@refs/pr/1#sub/m.gguf",
            HubSource(repository="org/repo", revision="refs/pr/1", path="sub/m.gguf"),
        ),
        ("file:/a/b.gguf", FileSource(path=Path("/a/b.gguf"))),
        ("file:///a/b.gguf", FileSource(path=Path("/a/b.gguf"))),
    ],
)
def test_an_address_is_taken_apart(uri: str, source: Source) -> None:
    assert parse(uri) == source


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "model",
        "http://x/y",
        "pypi:",
        "pypi:a#x.gguf",
        "pypi:a>=1#x.gguf",
        "pypi:a==1",
        "pypi:-r==1#x.gguf",
        "pypi:a==1 --index-url=x#x.gguf",
        "pypi:a==1#../x.gguf",
        "pypi:a==1#/x.gguf",
        "pypi:a==1#x.pkl",
        "hf:repo",
        "hf:org/repo/more",
        "hf:org/repo@",
        "hf:org/repo@-x",
        "hf:org/repo#x.bin",
        "hf:org/repo#../x.gguf",
        "file:relative.gguf",
        "file:" + "/x" * 1_000,
    ],
)
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(PreparationError):
        parse(uri)


@pytest.mark.parametrize(
    "name", ["m.gguf", "a/M.GGUF", "x.safetensors", "openvino_model.bin", "tokenizer.json"]
)
def test_plain_data_may_be_opened(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "m.pt", "m.pth", "m.pkl", "m.ckpt", "m.py", "m.gguf.py", "m.so", "m"],
)
def test_pickles_and_code_are_refused_by_name(name: str) -> None:
    with pytest.raises(PreparationError, match="only data is"):
        check_name(name)


def test_the_default_model_is_in_the_catalogue_with_its_digest() -> None:
    entry = resolve(DEFAULT)
    assert DEFAULT in names()
    assert entry.sha256 is not None
    assert len(entry.sha256) == 64


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("pypi:a==1#x/My Model.Q4_1.gguf", "my-model.q4_1"),
        ("hf:org/SmolLM2-GGUF", "smollm2-gguf"),
        ("hf:org/repo#sub/Model-Q8.gguf", "model-q8"),
        ("file:/models/Llama 3.gguf", "llama-3"),
        ("file:/models/llama.ir", "llama.ir"),
        ("file:/", "model"),
    ],
)
def test_a_model_from_an_address_gets_a_plain_name(uri: str, name: str) -> None:
    entry = resolve(uri)
    assert (entry.name, entry.source, entry.sha256) == (name, uri, None)


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(PreparationError, match=DEFAULT):
        resolve("gpt-5")
