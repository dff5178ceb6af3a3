"""Which tokens of which sequences a step reads: no tensors, no clock.

Each sequence is a list of token ids of which some are in the KV memory; a step reads what is
missing, one token of each that is being answered, and as much of the prompts as fits.  So a
sequence whose memory was taken back simply has all of its tokens missing.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from forebay.engine.protocol import SequenceId
from forebay.engines.growing_sequence import GrowingSequence
from forebay.engines.transformers_kv import Row

_EXPECTED_TOKENS_MAX: Final = 256
"""More of an answer than this gets no memory before it is made."""

_CHUNK_TOKENS_MIN: Final = 16
"""Prompts go on, however many sequences are being answered."""


@dataclass(slots=True, eq=False, kw_only=True)
class Growing(GrowingSequence):
    """One sequence.  Mutable state: its tokens, and the row of those that were read."""

    adapter: str = ""
    """The adapter by the name that it has within the model; empty: none."""
    row: Row = field(default_factory=Row)

    @property
    def unread(self) -> int:
        """Tokens that are not in the KV memory."""
        return len(self.tokens) - self.row.tokens


@dataclass(frozen=True, slots=True)
class Share:
    """What a step reads of one sequence."""

    sequence: Growing
    count: int

    @property
    def last(self) -> bool:
        """Whether the next token can be chosen after it."""
        return self.count == self.sequence.unread


class Rows(Protocol):
    """The KV memory, as a batch sees it (`KvStore`)."""

    def hold(self, row: Row, tokens: int, *, expected: int) -> bool:
        """See that a row has room for so many tokens; False: there is none."""

    def release(self, rows: Sequence[Row]) -> None:
        """Take rows back."""


class Batch:
    """Who runs and who waits."""

    def __init__(self, rows: Rows, *, running_max: int, tokens_max: int) -> None:
        """Read at most about `tokens_max` tokens a step."""
        self._rows = rows
        self._running_max = running_max
        self._tokens_max = tokens_max
        # The whole mutable state.
        self.running: dict[SequenceId, Growing] = {}
        """In the order in which they were let in: the last one gives way first."""
        self.waiting: deque[Growing] = deque()

    def add(self, sequence: Growing) -> None:
        """Let a sequence wait for its turn."""
        self.waiting.append(sequence)

    def drop(self, ids: Sequence[SequenceId]) -> list[Growing]:
        """Forget sequences, take their memory back, and return them; unknown ids are no error."""
        ran = [sequence for id in ids if (sequence := self.running.pop(id, None)) is not None]
        self._rows.release([sequence.row for sequence in ran])
        if len(ran) == len(ids) or not self.waiting:
            return ran
        waited = [sequence for sequence in self.waiting if sequence.id in set(ids)]
        for sequence in waited:
            self.waiting.remove(sequence)
        return ran + waited

    def plan(self) -> list[Share]:
        """Decide what the next step reads, and see that there is memory for it."""
        self._make_room()
        decoding = [one for one in self.running.values() if one.unread == 1]
        shares = [Share(sequence, 1) for sequence in decoding]
        left = max(_CHUNK_TOKENS_MIN, self._tokens_max - len(shares))
        for sequence in self.running.values():
            if sequence.unread > 1 and left > 0:
                shares.append(Share(sequence, min(left, sequence.unread)))
                left -= shares[-1].count
        while left > 0 and self.waiting and len(self.running) < self._running_max:
            sequence = self.waiting[0]
            if not self._hold(sequence):
                break
            self.waiting.popleft()
            self.running[sequence.id] = sequence
            shares.append(Share(sequence, min(left, sequence.unread)))
            left -= shares[-1].count
        return shares

    def _make_room(self) -> None:
        """See that each that runs has room for all of its tokens; the youngest give way."""
        for sequence in list(self.running.values()):
            while sequence.id in self.running and not self._hold(sequence):
                _, youngest = self.running.popitem()
                self._rows.release([youngest.row])
                self.waiting.appendleft(youngest)

    def _hold(self, sequence: Growing) -> bool:
        length = len(sequence.tokens)
        expected = min(sequence.end_most, length + min(length, _EXPECTED_TOKENS_MAX))
        return self._rows.hold(sequence.row, length, expected=expected)
