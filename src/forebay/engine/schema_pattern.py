"""The regular expressions that a JSON string can be held to.

The grammar library matches a pattern against the JSON text, quotes and all: a `.` or a negated
class lets quotes and line ends through, and the answer is no JSON any more.  What is left is
enough for codes, numbers and names: literals, classes of named characters, groups, and
repetitions that stay small.
"""

from typing import Final

CHARACTERS_MAX: Final = 512
REPEATS_MAX: Final = 100
"""Largest number in {m,n}; only a single character or class may be counted with it."""

_ESCAPES: Final = frozenset(r"dw.+*?()[]{}^$|/-")
_UNSAFE: Final = frozenset('"\\')


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
    """One pass from left to right.  State: position, open groups, whether `{` may follow."""

    def __init__(self, body: str) -> None:
        self._body = body
        self._at = 0
        self._depth = 0
        self._last = ""
        self._counts = 0

    def run(self) -> int:
        """Scan the whole and return the sum of its counts."""
        while self._at < len(self._body):
            self._one(self._take())
        if self._depth:
            raise PatternRefused("a group is not closed.")
        return self._counts

    def _take(self) -> str:
        if self._at >= len(self._body):
            raise PatternRefused("it ends too early.")
        self._at += 1
        return self._body[self._at - 1]

    def _one(self, character: str) -> None:
        match character:
            case "(":
                self._open()
            case ")":
                self._close()
            case "|":
                self._alternative()
            case "[":
                self._class()
                self._last = "single"
            case "*" | "+" | "?" | "{":
                self._repeat(character)
            case "." | "^" | "$" | "]" | "}":
                raise PatternRefused(
                    f"{character!r} is not supported here. Name the characters, as in [A-Za-z ]."
                )
            case "\\":
                self._escape()
                self._last = "single"
            case _:
                _check_plain(character)
                self._last = "single"

    def _open(self) -> None:
        if self._body.startswith("?", self._at) and not self._body.startswith("?:", self._at):
            raise PatternRefused("look-around and named groups are not supported.")
        if self._body.startswith("?:", self._at):
            self._at += 2
        self._depth += 1
        self._last = ""

    def _close(self) -> None:
        if not self._depth or not self._last:
            raise PatternRefused("a group is empty, or closed where none is open.")
        self._depth -= 1
        self._last = "group"

    def _alternative(self) -> None:
        if not self._depth or not self._last:
            raise PatternRefused("alternatives must not be empty and need a group: ^(a|b)$.")
        self._last = ""

    def _repeat(self, character: str) -> None:
        if self._last not in ("single", "group"):
            raise PatternRefused("a repetition stands where nothing can be repeated.")
        if character == "{":
            numbers = self._braces()
            if self._last == "group" and numbers[-1] > 1:
                raise PatternRefused("only a character or a class can be counted, not a group.")
            self._counts += numbers[-1]
        self._last = "repeated"

    def _braces(self) -> list[int]:
        end = self._body.find("}", self._at)
        parts = self._body[self._at : end].split(",") if end > 0 else []
        self._at = end + 1
        if not (1 <= len(parts) <= 2 and all(p.isascii() and p.isdigit() for p in parts)):  # noqa: PLR2004 - m, or m and n
            raise PatternRefused("a count must be {m} or {m,n}.")
        numbers = [int(part) for part in parts]
        if not numbers[0] <= numbers[-1] <= REPEATS_MAX or not numbers[-1]:
            raise PatternRefused(f"counts must rise, and end at 1 to {REPEATS_MAX}.")
        return numbers

    def _escape(self) -> str:
        character = self._take()
        if character not in _ESCAPES:
            raise PatternRefused(
                f"\\{character} is not supported. Name the characters, as in [A-Za-z ]."
            )
        return character

    def _class(self) -> None:
        if self._body.startswith("^", self._at):
            raise PatternRefused("negated classes are not supported. Name what is allowed.")
        members = 0
        before = ""
        while (character := self._take()) != "]":
            members += 1
            if character == "\\":
                before = self._escape()
                before = "" if before in "dw" else before
            elif character == "-" and before and not self._body.startswith("]", self._at):
                _check_range(before, self._take())
                before = ""
            else:
                _check_plain(character)
                before = character
        if not members:
            raise PatternRefused("a class is empty.")


def _check_plain(character: str) -> None:
    if character in _UNSAFE or not character.isprintable():
        raise PatternRefused("quotes, backslashes and control characters are not supported.")


def _check_range(low: str, high: str) -> None:
    kinds = (str.isdigit, str.islower, str.isupper)
    same = any(kind(low) and kind(high) for kind in kinds)
    if not (low.isascii() and high.isascii() and same and low <= high):
        raise PatternRefused("a range must be among digits, a-z or A-Z, and rise.")
