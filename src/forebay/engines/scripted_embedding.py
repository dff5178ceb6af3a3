"""Vectors without a model: what the words of a text have by chance, summed up.

Equal texts have equal vectors, texts that share words are nearer than those that share none, and
nothing else is true of them: they know no meaning.
"""

import hashlib
import math
import struct
from collections.abc import Iterable
from typing import Final

SIZE: Final = 64
_MIDDLE: Final = 127.5


def embedding_of(pieces: Iterable[bytes]) -> bytes:
    """Return the vector of a text's pieces: `SIZE` little-endian float32, of length 1."""
    total = [0.0] * SIZE
    for piece in pieces:
        digest = hashlib.blake2b(piece.strip(), digest_size=SIZE).digest()
        total = [sum_ + byte - _MIDDLE for sum_, byte in zip(total, digest, strict=True)]
    length = math.hypot(*total) or 1.0
    return struct.pack(f"<{SIZE}f", *[number / length for number in total])
