"""API keys as text: made, recognised, and kept as a digest only.

`fb_live_` + 10 letters that name the key + 28 that prove it + 6 that check the rest, all base62.
28 letters are 166 bits, so a plain SHA-256 keeps them: nobody can try them out.  The check is a
CRC-32: a mistyped or made-up key is refused without asking the database, and a scanner that finds
such a text in a repository knows it for a key.  The six letters of the check are no secret.
"""

import hashlib
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "fb_live_"
_LETTERS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID: Final = 10
_SECRET: Final = 28
_CHECK: Final = 6
LENGTH: Final = len(PREFIX) + _ID + _SECRET + _CHECK


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A new key, as it is shown once."""

    id: str
    text: str = field(repr=False)

    @property
    def digest(self) -> str:
        """What is kept of it."""
        return digest(self.text)

    @property
    def last4(self) -> str:
        """What people may tell it by: the end of its proof, before the check."""
        return self.text[-_CHECK - 4 : -_CHECK]


def make(id: str = "") -> ApiKey:
    """Return a new key; a rotation keeps the `id` of the key that it replaces."""
    id = id or _letters(_ID)
    stem = f"{PREFIX}{id}{_letters(_SECRET)}"
    return ApiKey(id=id, text=stem + _check(stem))


def parse(text: str) -> str | None:
    """Return the id in a key's text, or None if no key of ours was ever written like this."""
    if len(text) != LENGTH or not text.startswith(PREFIX) or not text.isascii():
        return None
    if not text[len(PREFIX) :].isalnum() or _check(text[:-_CHECK]) != text[-_CHECK:]:
        return None
    return text[len(PREFIX) : len(PREFIX) + _ID]


def is_id(id: str) -> bool:
    """Whether a key could have this id."""
    return len(id) == _ID and id.isascii() and id.isalnum()


def digest(text: str) -> str:
    """Return what is kept of a key: SHA-256 of its whole text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def _letters(count: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(count))


def _check(stem: str) -> str:
    rest = zlib.crc32(stem.encode())
    letters = []
    for _ in range(_CHECK):
        rest, place = divmod(rest, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(reversed(letters))
