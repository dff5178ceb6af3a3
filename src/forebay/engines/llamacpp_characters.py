"""The tokens of which llama.cpp's server tells nothing: those that end within a character.

Its stream tells a token when the text so far is whole; a token that leaves a character unfinished
is counted, and its id is never told.  The next line has the text of all of them and the id of the
last, so the others are found by their bytes.  Where one character can be cut in several ways, the
longest pieces come first, as in byte pair encoding: the count and the text are exact in any case.
"""

from collections.abc import Callable
from typing import Final

from forebay.core.request import TokenId

_CONTINUES, _CONTINUES_MASK = 0x80, 0xC0
_UNKNOWN: Final = "\ufffd"


class SplitCharacters:
    """Finds tokens by their bytes.  Mutable state: the table, made when it is first needed."""

    def __init__(self, token_bytes: Callable[[TokenId], bytes], vocabulary_size: int) -> None:
        """Know a vocabulary."""
        self._token_bytes = token_bytes
        self._vocabulary_size = vocabulary_size
        self._table: dict[bytes, TokenId] = {}

    def between(self, text: str, last: TokenId, count: int) -> list[TokenId]:
        """Return the `count` tokens before `last` that with it make `text`."""
        whole, tail = text.encode(), self._token_bytes(last)
        if _UNKNOWN not in text and tail and whole.endswith(tail):
            found = self._cut(whole, len(whole) - len(tail), count)
            if found is not None:
                return found
        return self.unknown(count)

    def unknown(self, count: int) -> list[TokenId]:
        """Return so many tokens that are no character, for those whose bytes are not known."""
        table = self._known()
        return [table[min(table, key=len)] if table else 0] * count

    def _cut(self, whole: bytes, size: int, count: int) -> list[TokenId] | None:
        """Return `count` tokens that make `whole[:size]`, each ending within a character."""
        if not count:
            return None if size else []
        table = self._known()
        for cut in range(size, 0, -1):
            token = table.get(whole[:cut])
            if token is None or not _inside(whole, cut):
                continue
            rest = self._cut(whole[cut:], size - cut, count - 1)
            if rest is not None:
                return [token, *rest]
        return None

    def _known(self) -> dict[bytes, TokenId]:
        if not self._table:
            for token in range(self._vocabulary_size - 1, -1, -1):
                made = self._token_bytes(token)
                if made and _ends_inside(made):
                    self._table[made] = token
        return self._table


def _inside(whole: bytes, place: int) -> bool:
    return place < len(whole) and whole[place] & _CONTINUES_MASK == _CONTINUES


def _ends_inside(made: bytes) -> bool:
    """Return whether a character may go on after these bytes."""
    try:
        made.decode()
    except UnicodeDecodeError as error:
        return error.end == len(made) or error.start == 0
    return False
