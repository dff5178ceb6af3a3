"""A GGUF becomes a model that an engine loads, or a message; by the real libraries."""

import sys
from pathlib import Path

import pytest

from forebay.core.request import Sampling
from forebay.engine.manifest import Form
from forebay.engine.protocol import Feature, SequenceId
from forebay.models.artefacts import Artefact
from forebay.models.catalogue import resolve
from forebay.models.preparation import prepare
from forebay.models.stages import PreparationError, Progress, Stage
from tests.support.hub import serving
from tests.support.models import CONTEXT, a_gguf

pytest.importorskip("openvino_genai")


def prepared(source: Path, cache: Path) -> Artefact:
    return prepare(
        resolve(f"file:{source}"), form=Form.OPENVINO, cache=cache, progress=lambda _: None
    )


def test_a_gguf_of_the_hub_is_prepared_and_speaks(tmp_path: Path) -> None:
    from forebay.engines.openvino import KIND, OpenVinoConfig  # noqa: PLC0415 - heavy

    told: list[Progress] = []
    content = a_gguf(tmp_path / "m.gguf").read_bytes()
    with serving({"m.gguf": content}) as hub:
        artefact = prepare(
            resolve("hf:org/repo"),
            form=Form.OPENVINO,
            cache=tmp_path / "cache",
            progress=told.append,
            hub_endpoint=hub.address,
        )
    gone = hub.address  # the second time, no network is needed
    again = prepare(
        resolve("hf:org/repo"),
        form=Form.OPENVINO,
        cache=tmp_path / "cache",
        progress=told.append,
        hub_endpoint=gone,
    )
    assert again == artefact
    stages = list(dict.fromkeys(progress.stage for progress in told))
    assert stages == [stage for stage in Stage if stage in stages]
    assert {Stage.FETCH, Stage.DEQUANTISE, Stage.READ, Stage.COMPRESS} <= set(stages)
    assert artefact.manifest.context_tokens_max == CONTEXT
    assert artefact.manifest.eos_token_ids == (0, 2)
    engine = KIND.make(OpenVinoConfig(kv_cache_bytes=16 << 20), artefact.path)
    assert Feature.CHAT in engine.info.supports
    assert engine.info.context_tokens_max == CONTEXT
    prompt = engine.tokenizer.encode("hello, 12 wörld")
    engine.submit(SequenceId(1), prompt, Sampling(tokens_max=5, seed=1, ignore_eos=True))
    made = [token for _ in range(6) for output in engine.step() for token in output.token_ids]
    assert len(made) == 5
    engine.close()


def test_matrices_are_stored_in_8_bits(tmp_path: Path) -> None:
    import openvino  # noqa: PLC0415 - heavy

    artefact = prepared(a_gguf(tmp_path / "m.gguf"), tmp_path / "cache")
    model = openvino.Core().read_model(artefact.path / "openvino_model.xml")
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    large = [node for node in constants if node.get_byte_size() >= 64 * 32]
    assert len(large) == 15  # seven a layer, and the embedding, which is the output layer too
    assert {node.get_element_type().to_string() for node in large} == {"i8"}


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"architecture": "mamba"}, "architecture is 'mamba'"),
        ({"pre": "qwen2"}, "pre-tokenizer 'qwen2'"),
    ],
)
def test_a_model_that_is_not_supported_is_refused_with_what_is(
    tmp_path: Path, facts: dict[str, str], words: str
) -> None:
    with pytest.raises(PreparationError, match=words):
        prepared(a_gguf(tmp_path / "m.gguf", **facts), tmp_path / "cache")


def test_a_damaged_gguf_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = a_gguf(tmp_path / "m.gguf")
    source.write_bytes(source.read_bytes()[:-1_000])
    with pytest.raises(PreparationError, match="beyond the file's end"):
        prepared(source, tmp_path / "cache")
    assert not (tmp_path / "cache/models").exists()


def test_a_conversion_that_dies_becomes_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = a_gguf(tmp_path / "m.gguf")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PreparationError, match="status 1"):
        prepared(source, tmp_path / "cache")
