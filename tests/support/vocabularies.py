"""Small vocabularies made in the test's own process, and prepared folders around them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, UnigramTrainer

from forebay.core.request import Message, Role
from forebay.engine.manifest import (
    CHAT_TEMPLATE,
    FORMAT,
    TOKENIZER,
    Form,
    Manifest,
    write_manifest,
)
from forebay.engine.text import ModelTokenizer

LINES: Final = (
    "The quick brown fox jumps over the lazy dog, and 42 others follow it.",
    "def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1)",
    "What is the capital of France?  Paris, since the year 987; système, user.",
    "日本語のテキストと emoji 👨‍👩‍👧 and ünïcödé",
)
SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML: Final = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The default model's own."""


def byte_level(*added: AddedToken) -> Tokenizer:
    """Return a byte-level vocabulary, like the default model's, with further added tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=500,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_tokens(list(added))
    return tokenizer


def sentence_pieces() -> Tokenizer:
    """Return a vocabulary that marks spaces and falls back to bytes, like Llama 2's."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>", "</s>", *pieces], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return _only_special(tokenizer, "<unk>", "<s>", "</s>")


def unigram() -> Tokenizer:
    """Return a vocabulary whose model would match a control token's literal by itself."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = sorted({*"".join(LINES), *"</s>|_imendrt"})
    trainer = UnigramTrainer(
        vocab_size=200,
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES * 3, trainer)
    return tokenizer


def prepared(
    folder: Path,
    library: Tokenizer,
    template: str | None = CHATML,
    *,
    bos: str | None = None,
    eos: str | None = None,
) -> ModelTokenizer:
    """Write an artefact's text files and load them."""
    folder.mkdir(parents=True, exist_ok=True)
    library.save(str(folder / TOKENIZER))
    if template is not None:
        (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
    write_manifest(folder, manifest(library, bos=bos, eos=eos))
    return ModelTokenizer.load(folder)


def manifest(library: Tokenizer, *, bos: str | None = None, eos: str | None = None) -> Manifest:
    """Return the facts of a made-up model."""
    end = None if eos is None else library.token_to_id(eos)
    return Manifest(
        format=FORMAT,
        name="made-up",
        source="file:made-up",
        source_sha256="0" * 64,
        form=Form.OPENVINO,
        architecture="llama",
        precision="int8",
        prepared_by="test",
        parameters=0,
        weights_bytes=0,
        context_tokens_max=2048,
        layers=1,
        width=8,
        kv_heads=1,
        head_size=8,
        vocabulary_size=library.get_vocab_size(),
        eos_token_ids=() if end is None else (end,),
        bos_token_id=None if bos is None else library.token_to_id(bos),
        add_bos=bos is not None,
        special_tokens={},
        files={},
    )


def turns(*contents: str) -> list[Message]:
    """Return a conversation that alternates between user and assistant."""
    roles = (Role.USER, Role.ASSISTANT)
    return [Message(role=roles[i % 2], content=text) for i, text in enumerate(contents)]


def decoded(tokenizer: ModelTokenizer, ids: Sequence[int]) -> str:
    """Return the bytes of ids as text: what the model reads, without its control tokens."""
    return b"".join(tokenizer.token_bytes(id) for id in ids).decode()


def _only_special(tokenizer: Tokenizer, *special: str) -> Tokenizer:
    """Byte pieces are vocabulary; the trainer takes them as special tokens only."""
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [
        token for token in document["added_tokens"] if token["content"] in special
    ]
    return Tokenizer.from_str(json.dumps(document))
