"""Text as a reader would read it: for screening only, a model is given what was sent.

Compatibility forms, letters that look like others, marks and invisible characters are folded
away, so that one pattern finds a phrase in all its spellings.  Patterns are folded as well, so
that a script whose letters look Latin is still matched by its own words.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

TAG_FIRST: Final = 0xE0020
TAG_LAST: Final = 0xE007E
_TAGS: Final = 0xE0000
_PIECE: Final = 256
"""Characters normalised at once: the library's time grows with the square of a run of marks."""

# Format characters, fillers, variation selectors and tags: they show nothing by themselves.
_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]+"
)
# What can be taken from a text without harm to it: joiners, direction marks and the selectors of
# emoji have honest uses and stay.  So do the tags of flags, which begin with a black flag.
_CARRIERS: Final = re.compile(
    "(\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f)"
    "|[\u00ad\u034f\u115f\u1160\u180e\u200b\u202a-\u202e\u2060-\u2064\u2066-\u206f\u3164\ufeff"
    "\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_BIDI: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
_TAGGED: Final = re.compile(f"[{chr(TAG_FIRST)}-{chr(TAG_LAST)}]{{4,}}")
_FLAG: Final = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f")
_SELECTED: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{8,}")
_SELECTORS: Final = 16
_SELECTOR_FIRST: Final = 0xFE00
_SELECTOR_BEYOND: Final = 0xE0100

# Own table, by looking: letters of other scripts whose shape is that of a Latin one, after
# lower-casing (a Cyrillic capital keeps its shape there or is listed under its small form).
_LOOKALIKES: Final = (
    ("абвгеёжзіїјкмнорсѕтуүхһцԁԛԝѵьӏ", "abbreex3iijkmhopcstyyxhudqwvbl"),
    ("αβγεζηικμνορστυχωϲϳ", "abyeznikuvopotuxwcj"),
    ("ագհյոսցօքԁ", "ughjnuqofd"),
    ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnoprstuvwyz"),
    ("ıłøđɡɑɩɐəɯɹʇʌʍʎħŧȷℓ", "ilodgaiaemrtvwyhtjl"),
)
_QUOTES: Final = {"\u2019": "'", "\u2018": "'", "`": "'", "\u00b4": "'"} | dict.fromkeys(
    "\u201c\u201d\u00ab\u00bb", '"'
)
_SPACES: Final[dict[int, str | None]] = {
    code: " " for code in range(128) if not chr(code).isalnum()
} | {ord("'"): None}
_WIDE: Final = re.compile(
    # Signs of no script's words, beyond ASCII; and scripts without spaces, a sign a word.
    "[\u00a0-\u00bf\u2000-\u206f\u3000-\u303f\uff00-\uff0f]|([\u3040-\u30ff\u3400-\u9fff])"
)


@dataclass(frozen=True, slots=True)
class Folded:
    """A text as it is screened."""

    lines: str
    """Folded, with its signs and line ends."""
    words: list[str]
    """Without signs; of scripts without spaces, each sign."""
    known: frozenset[str]
    """The same words, each once."""
    flat: str
    """The words with one space between them."""

    @classmethod
    def of(cls, text: str) -> Self:
        """Fold a text and cut it into words."""
        lines = fold(text)
        spaced = lines if lines.isascii() else _WIDE.sub(r" \1 ", lines)
        words = spaced.translate(_SPACES).split()
        return cls(lines, words, frozenset(words), " ".join(words))


def fold(text: str) -> str:
    """Return the text in small letters without disguise; its time is linear in its length."""
    if text.isascii():
        return text.lower()
    seen = _UNSEEN.sub("", text)
    pieces = (seen[at : at + _PIECE] for at in range(0, len(seen), _PIECE))
    normal = "".join(unicodedata.normalize("NFKD", piece) for piece in pieces)
    return normal.lower().translate(_FOLDED)


def without_carriers(text: str) -> str:
    """Return the text without invisible characters that can carry hidden text."""
    return text if text.isascii() else _CARRIERS.sub(r"\1", text)


def hidden_text(text: str) -> str:
    """Return what is written in tag characters or variation selectors; empty: nothing is."""
    if text.isascii():
        return ""
    plain = _FLAG.sub("", text)
    tagged = (
        "".join(chr(ord(character) - _TAGS) for character in found)
        for found in _TAGGED.findall(plain)
    )
    selected = (
        bytes(map(_selected, found)).decode("utf-8", "replace")
        for found in _SELECTED.findall(plain)
    )
    return " ".join((*tagged, *selected))


def turns_direction(text: str) -> bool:
    """Whether it holds controls that show text in another order than it is read."""
    return not text.isascii() and _BIDI.search(text) is not None


def _selected(character: str) -> int:
    """Return the byte that a variation selector stands for: 1 to 16, then 17 to 256."""
    code = ord(character)
    if code < _SELECTOR_BEYOND:
        return code - _SELECTOR_FIRST
    return code - _SELECTOR_BEYOND + _SELECTORS


def _folded() -> Mapping[int, str | None]:
    table: dict[int, str | None] = dict.fromkeys(range(0x300, 0x370))  # combining marks
    for others, latin in _LOOKALIKES:
        table |= {ord(other): own for other, own in zip(others, latin, strict=True)}
    table |= {ord(quote): plain for quote, plain in _QUOTES.items()}
    for first in (0x1F1E6, 0x1F150, 0x1F170):  # letters as flags, in circles, in squares
        table |= {first + n: chr(ord("a") + n) for n in range(26)}
    return table


_FOLDED: Final = _folded()
