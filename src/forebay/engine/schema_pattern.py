"""The regular expressions that a JSON string can be held to: rows of characters and classes.

The grammar library matches a pattern against the JSON text, quotes and all: a `.` or a negated
class lets quotes and line ends through, and the answer is no JSON any more.  And it merges
states that only look alike, so alternatives let others through.  What is left is a row of
characters and classes, each repeated or not, where a reader never has to guess which piece a
character belongs to.  It is enough for codes, numbers, names and addresses.
"""

import string
from typing import Final

CHARACTERS_MAX: Final = 512
REPEATS_MAX: Final = 100
"""Largest number in {m,n}."""

_ESCAPED: Final = {
    **{character: frozenset(character) for character in ".+*?()[]{}^$|/-"},
    "d": frozenset(string.digits),
    "w": frozenset(string.ascii_letters + string.digits + "_"),
}
_RANGES: Final = (string.digits, string.ascii_lowercase, string.ascii_uppercase)
_UNSAFE: Final = frozenset('"\\')
_SPECIAL: Final = frozenset("()|.^$]}*+?{")

Characters = frozenset[str]


class PatternRefused(Exception):
    """A pattern that would not be enforced, or would break the answer."""


def check_pattern(pattern: object) -> int:
    """Return the sum of a pattern's counts; raise `PatternRefused` if it cannot be enforced."""
    if not isinstance(pattern, str) or len(pattern) > CHARACTERS_MAX:
        raise PatternRefused(f"must be a text of at most {CHARACTERS_MAX} characters.")
    if not (pattern.startswith("^") and pattern.endswith("$") and len(pattern) > 1):
        raise PatternRefused("must match the whole text: begin with ^ and end with $.")
    return _Scan(pattern[1:-1]).run()


class _Scan:
    """One pass from left to right.

    State: the position, the sum of counts, and `open`: what the pieces before this one could
    still take, had they gone on.
    """

    def __init__(self, body: str) -> None:
        self._body = body
        self._at = 0
        self._counts = 0
        self._open: Characters = frozenset()

    def run(self) -> int:
        """Scan the whole and return the sum of its counts."""
        while self._at < len(self._body):
            characters = self._piece(self._take())
            if characters & self._open:
                raise PatternRefused(
                    "a repeated or optional piece and one that may follow it share a character. "
                    "Make them different, or use a fixed count."
                )
            low, high = self._repeat()
            if low:
                self._open = frozenset()
            if high != low:
                self._open |= characters
        return self._counts

    def _take(self) -> str:
        if self._at >= len(self._body):
            raise PatternRefused("it ends too early.")
        self._at += 1
        return self._body[self._at - 1]

    def _starts(self, text: str) -> bool:
        return self._body.startswith(text, self._at)

    def _piece(self, character: str) -> Characters:
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character in _SPECIAL:
            raise PatternRefused(
                f"{character!r} is not supported here: a pattern is a row of characters and "
                "classes, such as ^[A-Z]{2}-\\d+$. Use enum or anyOf for alternatives."
            )
        return _plain(character)

    def _repeat(self) -> tuple[int, int | None]:
        """Return how often the piece before may stand: at least, at most (None: any number)."""
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._starts(sign):
                self._at += 1
                return bounds
        if not self._starts("{"):
            return 1, 1
        end = self._body.find("}", self._at)
        parts = self._body[self._at + 1 : end].split(",") if end > 0 else []
        if len(parts) not in (1, 2) or not all(p.isascii() and p.isdigit() for p in parts):
            raise PatternRefused("a count must be {m} or {m,n}.")
        self._at = end + 1
        low, high = int(parts[0]), int(parts[-1])
        if not low <= high <= REPEATS_MAX or not high:
            raise PatternRefused(f"counts must rise, and end at 1 to {REPEATS_MAX}.")
        self._counts += high
        return low, high

    def _escape(self) -> Characters:
        character = self._take()
        if character not in _ESCAPED:
            raise PatternRefused(
                f"\\{character} is not supported. Name the characters, as in [A-Za-z ]."
            )
        return _ESCAPED[character]

    def _class(self) -> Characters:
        if self._starts("^"):
            raise PatternRefused("negated classes are not supported. Name what is allowed.")
        members: set[str] = set()
        while (character := self._take()) != "]":
            first = self._escape() if character == "\\" else _plain(character)
            if len(first) == 1 and self._starts("-") and not self._starts("-]"):
                self._at += 1
                first = _between(min(first), self._take())
            members |= first
        if not members:
            raise PatternRefused("a class is empty.")
        return frozenset(members)


def _plain(character: str) -> Characters:
    if character in _UNSAFE or not character.isprintable():
        raise PatternRefused("quotes, backslashes and control characters are not supported.")
    return frozenset(character)


def _between(low: str, high: str) -> Characters:
    for line in _RANGES:
        if low in line and high in line and low <= high:
            return frozenset(line[line.index(low) : line.index(high) + 1])
    raise PatternRefused("a range must be among digits, a-z or A-Z, and rise.")
