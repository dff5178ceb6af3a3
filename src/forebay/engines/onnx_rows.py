"""The KV memory of sequences: a row for each, of the whole context, filled page by page.

Attention over a batch wants the rows of a layer in one tensor, all of one length.  Of the address
space that takes, only the pages that were written cost memory, and the kernel takes those of a
finished sequence back.  So a row is as long as the context, and a short sequence is cheap.
"""

import math
import mmap
from typing import Any, Final

from forebay.engines.kv_memory import BLOCK_TOKENS, KvShape

_NO_RESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0)
_SMALL_PAGES: Final = getattr(mmap, "MADV_NOHUGEPAGE", None)
"""A huge page would hold thousands of tokens of one head."""
_GIVE_BACK: Final = getattr(mmap, "MADV_DONTNEED", None)


class KvRows:
    """Keys and values of all layers.  Mutable state: what is written in the rows."""

    def __init__(self, shape: KvShape, *, rows: int, tokens_max: int) -> None:
        """Take address space for `rows` sequences of up to `tokens_max` tokens.

        Raises OSError or MemoryError where the machine grants no address space.
        """
        import numpy as np  # noqa: PLC0415 - heavy

        assert shape.element_bytes == np.dtype(np.float32).itemsize
        self._token_bytes = shape.head_size * shape.element_bytes
        # Whole pages per head, so that giving one back takes nothing of its neighbour.
        grain = mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, self._token_bytes)
        self.capacity: Final = -(-tokens_max // grain) * grain
        self.shape: Final = (shape.kv_heads, self.capacity, shape.head_size)
        self._heads = shape.kv_heads
        self._head_bytes = self.capacity * self._token_bytes
        self.row_bytes: Final = self._heads * self._head_bytes
        self._maps = [self._map(rows) for _ in range(2 * shape.layers)]
        self._tensors: list[Any] = [
            np.frombuffer(area, dtype=np.float32).reshape(rows, *self.shape) for area in self._maps
        ]

    def addresses(self, row: int) -> list[int]:
        """Return where a row begins in each tensor: keys and values of each layer in turn."""
        return [tensor.ctypes.data + row * self.row_bytes for tensor in self._tensors]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a sequence's tokens to another row, and free its own."""
        for tensor in self._tensors:
            tensor[target, :, :tokens] = tensor[source, :, :tokens]
        self.release(source, tokens)

    def release(self, row: int, tokens: int) -> None:
        """Give back the memory of a row's first tokens."""
        if _GIVE_BACK is None:
            return
        used = -(-tokens * self._token_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        if not used:
            return
        for area in self._maps:
            for head in range(self._heads):
                start = row * self.row_bytes + head * self._head_bytes
                area.madvise(_GIVE_BACK, start, used)

    def _map(self, rows: int) -> mmap.mmap:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        area = mmap.mmap(-1, rows * self.row_bytes, flags=flags)
        if _SMALL_PAGES is not None:
            area.madvise(_SMALL_PAGES)
        return area


def blocks(tokens: int) -> int:
    """Return how many blocks of memory so many tokens take."""
    return -(-tokens // BLOCK_TOKENS)
