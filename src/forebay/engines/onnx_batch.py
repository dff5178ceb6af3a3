"""Which sequence is in which row, and what a step reads: no tensors, no clock.

Sequences that are being answered hold the rows from the first on, without a hole, so that one run
makes a token for each.  One prompt at a time is read, into the row after theirs.  What has no
memory left gives way, the last that was let in first, and is read again later.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.core.request import TokenId
from forebay.engine.protocol import SequenceId
from forebay.engines.growing_sequence import GrowingSequence


@dataclass(slots=True, eq=False, kw_only=True)
class Growing(GrowingSequence):
    """One sequence.  Mutable state: its tokens, how many were read, when it was let in."""

    read: int = 0
    """Tokens whose keys and values are in its row."""
    admission: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens of a prompt that a step reads."""

    sequence: Growing
    row: int
    count: int

    @property
    def token_ids(self) -> Sequence[TokenId]:
        """Return what is read."""
        sequence = self.sequence
        return sequence.tokens[sequence.read : sequence.read + self.count]


class Rows(Protocol):
    """The KV memory, as a batch sees it (`KvRows`)."""

    def move(self, source: int, target: int, tokens: int, /) -> None:
        """Copy a sequence's tokens to another row, and free its own."""

    def release(self, row: int, tokens: int, /) -> None:
        """Give back the memory of a row's first tokens."""


class Batch:
    """Who is answered, who is read, who waits."""

    def __init__(self, rows: Rows, *, running_max: int, blocks_max: int, block_tokens: int) -> None:
        """Let in so many sequences, and so many that all of their tokens fit into the blocks."""
        self._rows = rows
        self._running_max = running_max
        self._blocks_max = blocks_max
        self._block_tokens = block_tokens
        self._admissions = itertools.count()
        # The whole mutable state; the place in `answering` is the row.
        self.answering: list[Growing] = []
        self.reading: Growing | None = None
        self.waiting: deque[Growing] = deque()

    @property
    def running(self) -> list[Growing]:
        """Who holds a row."""
        return [*self.answering, self.reading] if self.reading else list(self.answering)

    @property
    def blocks_used(self) -> int:
        """Blocks of all that runs; a prompt that is being read counts whole."""
        return sum(self._blocks(sequence) for sequence in self.running)

    def add(self, sequence: Growing) -> None:
        """Let a sequence wait for its turn."""
        self.waiting.append(sequence)

    def drop(self, id: SequenceId) -> None:
        """Forget a sequence and take its memory back; an unknown id is no error."""
        for sequence in self.running:
            if sequence.id == id:
                self._leave(sequence)
                return
        for sequence in self.waiting:
            if sequence.id == id:
                self.waiting.remove(sequence)
                return

    def make_room(self) -> None:
        """See that what runs fits, with the tokens that this step reads of it."""
        while self.blocks_used > self._blocks_max:
            assert len(self.running) > 1, "one alone fits: its length was checked"
            last = max(self.running, key=lambda sequence: sequence.admission)
            self._leave(last)
            last.read = 0
            self.waiting.appendleft(last)

    def chunk(self, tokens_max: int) -> Chunk | None:
        """Return what to read of a prompt: of the one begun, or of the next if it may come in."""
        if self.reading is None:
            if not (self.waiting and self._may_enter(self.waiting[0])):
                return None
            self.reading = self.waiting.popleft()
            self.reading.admission = next(self._admissions)
        count = min(tokens_max, len(self.reading.tokens) - self.reading.read)
        return Chunk(self.reading, len(self.answering), count)

    def advance(self, chunk: Chunk) -> bool:
        """Note that a chunk was read; return whether the sequence can be answered now."""
        sequence = chunk.sequence
        sequence.read += chunk.count
        if sequence.read < len(sequence.tokens):
            return False
        self.answering.append(sequence)
        self.reading = None
        return True

    def _may_enter(self, sequence: Growing) -> bool:
        if len(self.answering) >= self._running_max:
            return False
        # Each of the others may soon need one more: who comes in is not to go at once.
        spare = len(self.answering)
        return self.blocks_used + self._blocks(sequence) + spare <= self._blocks_max or not spare

    def _blocks(self, sequence: Growing) -> int:
        return -(-len(sequence.tokens) // self._block_tokens)

    def _leave(self, sequence: Growing) -> None:
        """Take a sequence's row back, and close the hole."""
        last = len(self.answering)
        if sequence is self.reading:
            self._rows.release(last, sequence.read)
            self.reading = None
            return
        hole = self.answering.index(sequence)
        self._rows.release(hole, sequence.read)
        end = self.answering.pop()
        if end is not sequence:
            self._rows.move(last - 1, hole, end.read)
            self.answering[hole] = end
        if self.reading is not None:
            self._rows.move(last, last - 1, self.reading.read)
