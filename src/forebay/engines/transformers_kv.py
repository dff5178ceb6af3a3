"""The KV memory of a batch that torch computes: rows on shelves, each shelf of one length.

Attention over many sequences at once wants their keys in one tensor.  A shelf is such a tensor
per layer, with a row for each sequence; shelves double in length, so that at most half of a row
is unused and one long sequence does not make the rows of short ones long.  A sequence that
outgrows its row moves to the next shelf.  Rows in use are kept together at the front: what ends
is replaced by the last row, so that a step reads no holes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from forebay.engines.kv_memory import KvShape

_CAPACITY_MIN: Final = 128
"""Tokens of the shortest rows."""


@dataclass(slots=True, eq=False)
class Row:
    """A sequence's place.  Mutable state: where it is, and how many of its tokens are there."""

    shelf: "Shelf | None" = None
    index: int = 0
    tokens: int = 0


@dataclass(slots=True, eq=False)
class Shelf:
    """Rows of one length.  Mutable state: the tensors, and who holds the rows, from the front."""

    capacity: int
    rows: int = 0
    keys: list[Any] = field(default_factory=list)
    """Per layer, [rows, heads, capacity, head size]; values likewise."""
    values: list[Any] = field(default_factory=list)
    holders: list[Row] = field(default_factory=list)


class KvStore:
    """All shelves.  Never holds more than `tokens_max` tokens' worth of memory."""

    def __init__(
        self,
        shape: KvShape,
        *,
        tokens_max: int,
        length_max: int,
        dtype: Any,  # noqa: ANN401 - torch's
        device: Any,  # noqa: ANN401 - torch's
    ) -> None:
        """Begin empty; no sequence has more than `length_max` tokens."""
        assert length_max * 2 <= tokens_max, "a row that moves is there twice"
        self._shape = shape
        self._tokens_max = tokens_max
        self._length_max = length_max
        self._options = {"dtype": dtype, "device": device}
        # The whole mutable state.
        self._shelves: dict[int, Shelf] = {}

    @property
    def tokens_held(self) -> int:
        """Tokens' worth of memory in rows that sequences hold."""
        return sum(len(shelf.holders) * shelf.capacity for shelf in self._shelves.values())

    def hold(self, row: Row, tokens: int, *, expected: int) -> bool:
        """See that a row has room for so many tokens, and at best for those expected.

        Returns False, and changes nothing of the row, if there is no memory for that now.
        """
        if row.shelf is not None and row.shelf.capacity >= tokens:
            return True
        best = self._capacity(max(tokens, expected))
        least = self._capacity(tokens)
        while True:
            shelf = self._shelves.setdefault(best, Shelf(best))
            if len(shelf.holders) < shelf.rows or self._extend(shelf):
                self._move(row, shelf)
                return True
            if best == least:
                return False
            best = max(least, best // 2)

    def release(self, rows: Iterable[Row]) -> None:
        """Take rows back."""
        # From the back, so that rows of one shelf that end together move nobody.
        for row in sorted(rows, key=lambda row: -row.index):
            self._leave(row)
            row.tokens = 0

    def wipe(self, row: Row) -> None:
        """Forget what a row holds: where it is not finite, it would spoil who comes next."""
        assert row.shelf is not None, "it holds one"
        for tensor in (*row.shelf.keys, *row.shelf.values):
            tensor[row.index].zero_()

    def close(self) -> None:
        """Give everything back."""
        self._shelves.clear()

    def _capacity(self, tokens: int) -> int:
        capacity = _CAPACITY_MIN
        while capacity < tokens:
            capacity *= 2
        return min(capacity, self._length_max)

    def _free(self) -> int:
        taken = sum(shelf.rows * shelf.capacity for shelf in self._shelves.values())
        return self._tokens_max - taken

    def _extend(self, shelf: Shelf) -> bool:
        """Make room for at least one more row, if need be from what other shelves do not use."""
        if self._free() < shelf.capacity:
            self._trim()
        affordable = self._free() // shelf.capacity
        if affordable < 1:
            return False
        self._resize(shelf, shelf.rows + min(affordable, max(1, shelf.rows)))
        return True

    def _trim(self) -> None:
        """Give back the rows that nobody holds."""
        for capacity, shelf in list(self._shelves.items()):
            if not shelf.holders:
                del self._shelves[capacity]
            elif len(shelf.holders) < shelf.rows:
                self._resize(shelf, len(shelf.holders))

    def _resize(self, shelf: Shelf, rows: int) -> None:
        import torch  # noqa: PLC0415 - heavy

        self._shelves[shelf.capacity] = shelf
        size = (rows, self._shape.kv_heads, shelf.capacity, self._shape.head_size)
        used = len(shelf.holders)
        for tensors in (shelf.keys, shelf.values):
            for layer in range(self._shape.layers):
                # Zeros: what is masked must be finite, or 0 x NaN would spoil the sum.
                fresh = torch.zeros(size, **self._options)
                if layer == len(tensors):
                    tensors.append(fresh)
                    continue
                fresh[:used] = tensors[layer][:used]
                tensors[layer] = fresh
        shelf.rows = rows

    def _move(self, row: Row, shelf: Shelf) -> None:
        """Put a sequence into the first free row of a shelf, with what is known of it."""
        index = len(shelf.holders)
        if row.shelf is not None:
            for before, after in (
                *zip(row.shelf.keys, shelf.keys, strict=True),
                *zip(row.shelf.values, shelf.values, strict=True),
            ):
                after[index, :, : row.tokens] = before[row.index, :, : row.tokens]
            self._leave(row)
        row.shelf, row.index = shelf, index
        shelf.holders.append(row)

    def _leave(self, row: Row) -> None:
        """Take a row from its shelf; the last one there closes the gap."""
        shelf, row.shelf = row.shelf, None
        if shelf is None:
            return
        last = shelf.holders.pop()
        if last is not row:
            for tensor in (*shelf.keys, *shelf.values):
                tensor[row.index, :, : last.tokens] = tensor[last.index, :, : last.tokens]
            shelf.holders[row.index] = last
            last.index = row.index
