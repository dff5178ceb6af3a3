"""The text rules of a GGUF, as the `tokenizers` package reads them.

A GGUF carries a byte-level BPE as lists of tokens, merges and token types, and names its
pre-tokenizer; `tokenizer.json` says the same in that package's words.
"""

import enum
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.models.gguf import GgufHeader
from forebay.models.stages import PreparationError


class TokenType(enum.IntEnum):
    """What a GGUF says of a token; the other types do not occur in byte-level BPE."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_BYTE_LEVEL: Final = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
_DIGITS: Final = {"type": "Digits", "individual_digits": True}

_PRE_TOKENIZERS: Final[dict[str, Any]] = {
    "smollm": {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTE_LEVEL]},
    "gpt-2": _BYTE_LEVEL,
}
"""By the name llama.cpp gives them.  Each is shown equal to OpenVINO's own in a test."""


def write_tokenizer(header: GgufHeader, target: Path) -> dict[str, int]:
    """Write `tokenizer.json` and return the control tokens by their text."""
    model, pre = header.text("tokenizer.ggml.model"), header.text("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise PreparationError(
            f"The GGUF's tokenizer is {model[:32]!r} with pre-tokenizer {pre[:32]!r}; supported "
            f"are 'gpt2' with {', '.join(map(repr, _PRE_TOKENIZERS))}. Serve an OpenVINO IR of "
            "this model instead: a folder with openvino_model.xml and tokenizer.json."
        )
    tokens = [str(token) for token in header.items("tokenizer.ggml.tokens")]
    types = header.items("tokenizer.ggml.token_type")
    merges = [str(merge) for merge in header.items("tokenizer.ggml.merges")]
    if len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise PreparationError(
            "The GGUF's token list does not agree with itself. Fetch it from another place."
        )
    ids = {token: index for index, token in enumerate(tokens)}
    kinds = dict(zip(tokens, types, strict=True))
    target.write_bytes(
        msgspec.json.encode(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": [
                    _added(ids[token], token, special=kind == TokenType.CONTROL)
                    for token, kind in kinds.items()
                    if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
                ],
                "normalizer": None,
                "pre_tokenizer": _PRE_TOKENIZERS[pre],
                "post_processor": None,
                "decoder": _BYTE_LEVEL,
                "model": {
                    "type": "BPE",
                    "dropout": None,
                    "unk_token": None,
                    "continuing_subword_prefix": None,
                    "end_of_word_suffix": None,
                    "fuse_unk": False,
                    "byte_fallback": False,
                    "ignore_merges": False,
                    "vocab": ids,
                    "merges": [merge.split(" ", 1) for merge in merges],
                },
            }
        )
    )
    return {token: ids[token] for token, kind in kinds.items() if kind == TokenType.CONTROL}


def _added(index: int, token: str, *, special: bool) -> dict[str, object]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": token, **plain, "special": special}
