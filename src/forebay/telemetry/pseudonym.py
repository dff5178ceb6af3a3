"""What stands for a user in the log: the same each time, and no name.

Names are often addresses of people, and logs are read, copied and kept by more hands than the
accounts are.  A plain hash of a name can be guessed; this one is keyed by a salt of the
installation.  Who has to know who it was looks the request's id up in the usage ledger.
"""

import contextlib
import errno
import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

SALT_BYTES: Final = 32
_SALT_BYTES_MAX: Final = 64
"""The longest key that BLAKE2b takes."""
_NAME_BYTES: Final = 8
"""2^64 names: two of a million users meet once in 40 million installations."""


class Pseudonyms:
    """From a user's name to 16 hexadecimal digits."""

    def __init__(self, salt: bytes) -> None:
        """Take the installation's salt."""
        self._salt = salt

    def __call__(self, user: str) -> str:
        """Return what stands for a user."""
        name = user.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(name, digest_size=_NAME_BYTES, key=self._salt).hexdigest()


def a_salt() -> bytes:
    """Return a new salt."""
    return secrets.token_bytes(SALT_BYTES)


def kept_salt(file: Path) -> bytes:
    """Return the salt in a file; the first to ask makes it.  Raises OSError."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _make(file)
    salt = file.read_bytes()
    if len(salt) < SALT_BYTES:
        raise OSError(errno.EINVAL, f"A salt has {SALT_BYTES} bytes or more")
    return salt[:_SALT_BYTES_MAX]


def _make(file: Path) -> None:
    """Write first and name after: a file of that name is whole, and the first one stays."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as written:
            written.write(a_salt())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)
