"""Token ids in, whole characters out.  One detokenizer serves one sequence."""

import codecs
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from forebay.core.request import TokenId

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE_MARK: Final = "\u2581"  # how sentencepiece writes a space
_REPLACEMENT: Final = "\ufffd"
_HELD_TOKENS_MAX: Final = 8
"""Ids held back for an unfinished character: four bytes, with room for odd vocabularies."""


class TokenBytes(dict[TokenId, bytes]):
    """Id -> the bytes it adds to the text; filled as ids are met, so at most a vocabulary."""

    def __init__(self, tokenizer: "Tokenizer", hidden: frozenset[TokenId]) -> None:
        """Read pieces from `tokenizer`; hidden tokens stand for no text."""
        super().__init__()
        self._hidden = hidden
        self._piece = tokenizer.id_to_token
        byte_level = is_byte_level(tokenizer)
        self._bytes_of = _byte_level_bytes if byte_level else _sentencepiece_bytes

    def __missing__(self, token_id: TokenId) -> bytes:
        """Compute and keep; an id outside the vocabulary stands for nothing."""
        if token_id in self._hidden or token_id < 0:
            return b""
        piece = self._piece(token_id)
        if piece is None:  # models pad their output layer beyond the vocabulary
            return b""
        made = self._bytes_of(piece)
        self[token_id] = made
        return made


class ByteDetokenizer:
    """For byte-level vocabularies: joins bytes, holds back an unfinished character."""

    __slots__ = ("_bytes", "_held")

    def __init__(self, token_bytes: TokenBytes) -> None:
        """Share the table of bytes."""
        self._bytes = token_bytes
        self._held = b""

    def push(self, token_ids: Sequence[TokenId]) -> str:
        """Return the text that has become certain; never part of a character."""
        table = self._bytes
        data = self._held + b"".join([table[token_id] for token_id in token_ids])
        text, consumed = codecs.utf_8_decode(data, "replace", False)  # noqa: FBT003 - positional
        self._held = data[consumed:]
        return text

    def flush(self) -> str:
        """Return what is left; bytes that make no character become U+FFFD."""
        held, self._held = self._held, b""
        return held.decode("utf-8", "replace")


class WindowDetokenizer:
    """For other vocabularies: decodes a short window, whose text depends on what precedes it."""

    __slots__ = ("_emitted", "_hidden", "_ids", "_read", "_start", "_tokenizer")

    def __init__(self, tokenizer: "Tokenizer", hidden: frozenset[TokenId]) -> None:
        """Decode with the library, which knows the vocabulary's rules; hidden tokens are mute."""
        self._tokenizer = tokenizer
        self._hidden = hidden
        self._ids: list[TokenId] = []
        # The window is ids[start:]; the text of ids[start:read] has been emitted.
        self._start = 0
        self._read = 0
        self._emitted = 0

    def push(self, token_ids: Sequence[TokenId]) -> str:
        """Return the text that has become certain; never part of a character."""
        shown = [token_id for token_id in token_ids if token_id not in self._hidden]
        return "".join([self._push_one(token_id) for token_id in shown])

    def flush(self) -> str:
        """Return what is left; bytes that make no character become U+FFFD."""
        rest = self._decode(self._ids)[self._emitted :]
        self._emitted += len(rest)
        return rest

    def _push_one(self, token_id: TokenId) -> str:
        self._ids.append(token_id)
        window = self._ids[self._start :]
        text = self._decode(window)
        held = len(self._ids) - self._read
        if text.endswith(_REPLACEMENT) and held < _HELD_TOKENS_MAX:
            return ""
        known = self._decode(self._ids[self._start : self._read])
        new = text[len(known) :]
        if new:
            self._start, self._read = self._read, len(self._ids)
            self._emitted += len(new)
        return new

    def _decode(self, token_ids: Sequence[TokenId]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)


def is_byte_level(tokenizer: "Tokenizer") -> bool:
    """Whether each token is a string of bytes, whatever stands beside it."""
    return type(tokenizer.decoder).__name__ == "ByteLevel"


def _byte_level_bytes(piece: str) -> bytes:
    try:
        return bytes([_BYTE_OF[character] for character in piece])
    except KeyError:  # an added token is written as it reads
        return piece.encode("utf-8", "replace")


def _sentencepiece_bytes(piece: str) -> bytes:
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace(_SPACE_MARK, " ").encode("utf-8", "replace")


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's alphabet: printable bytes stand for themselves, others are moved up."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in shown}
    hidden = [byte for byte in range(0x100) if byte not in set(shown)]
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF: Final = _byte_alphabet()
