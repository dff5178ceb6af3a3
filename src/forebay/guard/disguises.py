"""The other ways to read a text: spelt out, in digits for letters, encoded, backwards.

Each costs a look that finds nothing in most texts.  What is decoded is bounded in number, length
and depth, and is read only if it is text.
"""

import base64
import binascii
import codecs
import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from forebay.guard.folding import Folded, hidden_text

PIECES_MAX: Final = 16
"""Most encoded pieces that are decoded of one section; a text of many is data."""
PIECE_CHARACTERS_MAX: Final = 4_096
DEPTH_MAX: Final = 2
"""An encoding within an encoding is read; one more is not."""
_TEXT_MIN: Final = 12
_LETTERS_RATIO_MIN: Final = 0.7


class Disguise(enum.StrEnum):
    """How a text was written so that it would not be read at once."""

    INVISIBLE = "invisible"
    SPELT = "spelt"
    DIGITS = "digits"
    BASE64 = "base64"
    HEX = "hex"
    ROTATED = "rotated"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a text says under a disguise."""

    disguise: Disguise
    text: str


# Every pattern begins with a set or a literal and repeats single sets only, so that each is
# searched in time of the text's length; tests/unit/guard keep it so.
_SPELT: Final = re.compile(r"\b\w(?:[ ._*-]\w){3,200}\b")
_MIXED: Final = re.compile(r"[a-z][0134578@$!|][a-z]|\b[0134578@$][a-z]{3}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{20,4096}={0,2}")
_HEX: Final = re.compile(
    r"(?:\\x|0x|%)?[0-9A-Fa-f]{2}(?:[ :,]?(?:\\x|0x|%)?[0-9A-Fa-f]{2}){9,1000}"
)
_HEX_MARK: Final = re.compile(r"\\x|0x|[ :,%]")
_BETWEEN: Final = re.compile(r"[ ._*-]")
_DIGITS: Final = str.maketrans("0134578@$!|", "oieastbasil")
_LONG: Final = 20
# What shows in a text's set of words that a closer look is worth its time.
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz")
_LETTERS_MIN: Final = 4
_PAIRS: Final = frozenset(f"{mark}{byte:02x}" for mark in ("", "x", "0x") for byte in range(256))
_PAIRS_MIN: Final = 6

_TRIGGERS: Final = ("ignore", "disregard", "instructions", "previous", "system", "prompt", "reveal")
_ROTATED: Final = frozenset(codecs.encode(word, "rot13") for word in _TRIGGERS)
_REVERSED: Final = frozenset(word[::-1] for word in _TRIGGERS)
_HINTS_MIN: Final = 2
"""Of a disguised text that many of its words must be known: one may be a name."""


def readings(text: str, folded: Folded) -> Iterator[Reading]:
    """Yield what else a text may say."""
    lines, known = folded.lines, folded.known
    hidden = hidden_text(text)
    if len(hidden) >= _TEXT_MIN:
        yield Reading(disguise=Disguise.INVISIBLE, text=hidden)
    if len(known & _LETTERS) >= _LETTERS_MIN:
        yield Reading(disguise=Disguise.SPELT, text=_SPELT.sub(_joined, lines))
    if _may_mix(folded) and _MIXED.search(lines):
        yield Reading(disguise=Disguise.DIGITS, text=lines.translate(_DIGITS))
    if len(known & _ROTATED) >= _HINTS_MIN:
        yield Reading(disguise=Disguise.ROTATED, text=codecs.encode(lines, "rot13"))
    if len(known & _REVERSED) >= _HINTS_MIN:
        yield Reading(disguise=Disguise.REVERSED, text=lines[::-1])
    if any(len(word) >= _LONG for word in known) or len(known & _PAIRS) >= _PAIRS_MIN:
        yield from _decoded(text, DEPTH_MAX)


def _may_mix(folded: Folded) -> bool:
    """Whether a word may hold digits or signs for letters."""
    if "@" in folded.lines or "$" in folded.lines:
        return True
    return any(not word.isalpha() and not word.isdigit() for word in folded.known)


def _decoded(text: str, depth: int) -> Iterator[Reading]:
    for disguise, pattern, decode in (
        (Disguise.BASE64, _BASE64, _from_base64),
        (Disguise.HEX, _HEX, _from_hex),
    ):
        for count, found in enumerate(pattern.finditer(text)):
            if count >= PIECES_MAX:
                break
            said = _as_text(decode(found.group()[:PIECE_CHARACTERS_MAX]))
            if said:
                yield Reading(disguise=disguise, text=said)
                if depth > 1:
                    yield from _decoded(said, depth - 1)


def _from_base64(piece: str) -> bytes:
    plain = piece.rstrip("=").replace("-", "+").replace("_", "/")
    whole = plain[: len(plain) // 4 * 4 + (0 if len(plain) % 4 == 1 else len(plain) % 4)]
    try:
        return base64.b64decode(whole + "=" * (-len(whole) % 4), validate=True)
    except binascii.Error:
        return b""


def _from_hex(piece: str) -> bytes:
    digits = _HEX_MARK.sub("", piece)
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def _as_text(found: bytes) -> str:
    """Return what was decoded if it is words, or empty."""
    text = found.decode("utf-8", "ignore")
    letters = sum(map(str.isalpha, text)) + text.count(" ")
    enough = len(text) >= _TEXT_MIN and letters >= _LETTERS_RATIO_MIN * max(len(text), len(found))
    return text if enough else ""


def _joined(found: re.Match[str]) -> str:
    return _BETWEEN.sub("", found.group())
