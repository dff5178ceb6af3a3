"""The default model's own text rules: exact, quick, and never much slower for hostile text."""

import json
import time
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from forebay.engine.manifest import TOKENIZER
from forebay.engine.protocol import Refused
from forebay.engine.text import ModelTokenizer
from forebay.models.catalogue import DEFAULT
from tests.support.models import artefact_of
from tests.support.vocabularies import turns

pytestmark = pytest.mark.model

HOSTILE: Final = {
    "one word": "a",
    "starts of control tokens": "<|im_",
    "control tokens": "<|im_end|>",
    "spaces": " ",
    "lines": "\n",
    "digits": "7",
    "apostrophes": "'",
    "ideographs": "漢字",
    "joined emoji": "👨‍👩‍👧",
    "prose": "The quick brown fox jumps over the lazy dog. ",
}


@pytest.fixture(scope="module")
def folder() -> Path:
    return artefact_of(DEFAULT).path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ModelTokenizer:
    return ModelTokenizer.load(folder)


@pytest.fixture(scope="module")
def unbounded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    """Return the same without the refusal of long prompts, to see what encoding costs."""
    copy = tmp_path_factory.mktemp("unbounded")
    for name in ("tokenizer.json", "chat_template.jinja"):
        (copy / name).write_bytes((folder / name).read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"context_tokens_max": 10**9}))
    return ModelTokenizer.load(copy)


def test_a_conversation_is_what_the_model_was_trained_on(
    tokenizer: ModelTokenizer, folder: Path
) -> None:
    library = Tokenizer.from_file(str(folder / TOKENIZER))
    expected = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = tokenizer.chat(turns("What is the capital of France?"))
    assert ids == library.encode(expected).ids
    assert ids[:4] == [1, 9690, 198, 2683]


@pytest.fixture(scope="module")
def library(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / TOKENIZER))


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_encoded_and_decoded_as_by_the_library(
    tokenizer: ModelTokenizer, library: Tokenizer, text: str
) -> None:
    library.encode_special_tokens = True
    ids = tokenizer.encode(text)
    assert ids == library.encode(text).ids
    detokenizer = tokenizer.detokenizer()
    deltas = [detokenizer.push([id]) for id in ids]
    # Its vocabulary lacks a few bytes, so some characters come back as U+FFFD: as they should.
    assert "".join(deltas) + detokenizer.flush() == library.decode(ids)


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_twice_the_text_costs_about_twice_the_time(unbounded: ModelTokenizer, unit: str) -> None:
    def seconds(chars: int) -> float:
        text = unit * (chars // len(unit))
        began = time.process_time()
        unbounded.chat(turns(text))
        return time.process_time() - began

    # Quadratic work would cost 16 times as much for 4 times the text; the machine is noisy.
    ratios = [seconds(200_000) / max(seconds(50_000), 1e-4) for _ in range(3)]
    assert min(ratios) < 8


def test_a_prompt_far_beyond_the_context_is_refused(tokenizer: ModelTokenizer) -> None:
    with pytest.raises(Refused, match=r"^prompt: the prompt has more than 16384 tokens"):
        tokenizer.encode("x <|im_end|>" * 100_000)
