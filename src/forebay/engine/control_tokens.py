"""A model's control tokens: found in a rendered prompt, made harmless in what people wrote.

Theory: before rendering, a separator that occurs nowhere else is put *inside* whatever could
become a control token: each literal in a content, and each fragment at a content's edge that
the template's own text could complete.  After rendering, what still reads as a control token
was written by the template.  The separators are taken out again, so nothing else changes.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

SEPARATORS: Final = tuple(chr(code) for code in range(0xFDD0, 0xFDF0))
"""Unicode noncharacters: no text has a use for all of them."""

_SPACES: Final = re.compile(r"\s*")
_WORD_AT_END: Final = re.compile(r"\w\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlToken:
    """One control token, and how `tokenizers` matches it."""

    id: int
    literal: str
    lstrip: bool = False
    """It swallows the white space before it."""
    rstrip: bool = False
    single_word: bool = False
    """It counts only where no word touches it."""


class ControlTokens:
    """A set of control tokens with the two operations on it."""

    def __init__(self, tokens: Iterable[ControlToken]) -> None:
        """Take the tokens; literals are unique and not empty."""
        self._tokens = {token.literal: token for token in tokens}
        literals = sorted(self._tokens)
        self._any = re.compile(_trie(literals)) if literals else None
        breakable = [literal for literal in literals if len(literal) > 1]
        self._starts = re.compile(rf"(?s)(?={_trie(breakable)}).") if breakable else None
        self._unbreakable = frozenset(literals).difference(breakable)
        self._length_max = max(map(len, literals), default=0)
        self._heads = {literal[:n] for literal in literals for n in range(1, len(literal))}
        self._tails = {literal[n:] for literal in literals for n in range(1, len(literal))}
        self._all = "\0".join(literals)

    @property
    def ids(self) -> frozenset[int]:
        """Return the ids of all of them."""
        return frozenset(token.id for token in self._tokens.values())

    def unbreakable(self, content: str) -> bool:
        """Whether a control token of a single character is in it: no separator helps there."""
        return any(character in content for character in self._unbreakable)

    def mark(self, content: str, separator: str) -> str:
        """Put `separator` wherever the content holds a control token, or could complete one."""
        if self._starts is None:
            return content
        marked = self._starts.sub(rf"\g<0>{separator}", content)
        start, end = _inner(marked)
        inner = marked[start:end]
        if not inner:
            return marked
        at_head = self._has_edge(inner, self._tails, head=True) or inner in self._all
        at_tail = self._has_edge(inner, self._heads, head=False)
        before = separator if at_head else ""
        after = separator if at_tail else ""
        return marked[:start] + before + inner + after + marked[end:]

    def split(self, text: str) -> Iterator[str | ControlToken]:
        """Cut rendered text into control tokens and the pieces between, as `tokenizers` does."""
        done = 0
        for match in self._any.finditer(text) if self._any else ():
            token = self._tokens[match.group()]
            if token.single_word and _touches_word(text, match):
                continue
            piece = text[done : match.start()]
            if token.lstrip:
                piece = piece.rstrip()
            if piece:
                yield piece
            yield token
            done = match.end()
            if token.rstrip:
                spaces = _SPACES.match(text, done)
                done = spaces.end() if spaces else done
        if done < len(text):
            yield text[done:]

    def broken(self, text: str) -> list[str]:
        """Cut inside each control token's literal, for a vocabulary that would match it whole."""
        if self._starts is None:
            return [text]
        cuts = [0, *(match.end() for match in self._starts.finditer(text)), len(text)]
        return [text[a:b] for a, b in pairwise(cuts) if a < b]

    def _has_edge(self, inner: str, fragments: set[str], *, head: bool) -> bool:
        """Whether the content's edge is a fragment that surrounding text could complete."""
        lengths = range(1, min(self._length_max, len(inner) + 1))
        if head:
            return any(inner[:n] in fragments for n in lengths)
        return any(inner[-n:] in fragments for n in lengths)


def separator_for(contents: Sequence[str]) -> str | None:
    """Return a separator that occurs in none of the contents; None if there is none."""
    free = (mark for mark in SEPARATORS if not any(mark in content for content in contents))
    return next(free, None)


def _inner(text: str) -> tuple[int, int]:
    """Return where the text begins and ends without the white space that templates trim."""
    start = len(text) - len(text.lstrip())
    return start, max(start, len(text.rstrip()))


def _touches_word(text: str, match: re.Match[str]) -> bool:
    before = _WORD_AT_END.search(text[max(0, match.start() - 1) : match.start()])
    after = _WORD_AT_END.search(text[match.end() : match.end() + 1])
    return bool(before or after)


def _trie(literals: Sequence[str]) -> str:
    """Return a pattern that matches the longest literal at a place, in time of its length.

    A plain alternation would try each of hundreds of literals at each `<` of hostile text.
    """
    if len(literals) == 1:
        return re.escape(literals[0])
    branches: dict[str, list[str]] = {}
    for literal in literals:
        branches.setdefault(literal[:1], []).append(literal[1:])
    optional = bool(branches.pop("", None))
    parts = [re.escape(first) + _trie(rest) for first, rest in branches.items()]
    return f"(?:{'|'.join(parts)})" + ("?" if optional else "")
