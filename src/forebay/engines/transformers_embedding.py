"""Vectors of texts: the mean, over all tokens, of what the model last computes of them.

The states are those that the output layer reads, after the last norm.  They are summed as a text
is read, chunk by chunk, so that a long one keeps nobody longer than a step; as vectors are of
length 1 in the end, the sum does as well as the mean.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from forebay.engine.protocol import SequenceId
from forebay.engines.transformers_batch import Share


class Pooling:
    """Sums of states.  Mutable state: one of each sequence that is being read."""

    def __init__(self) -> None:
        """Start with none."""
        self._sums: dict[SequenceId, Any] = {}

    def add(self, shares: Sequence[Share], states: Any) -> None:  # noqa: ANN401 - torch's
        """Take the states of a pass, [tokens, width], in the order of the shares not yet read."""
        first = 0
        for share in shares:
            sequence = share.sequence
            if sequence.sampling.embed:
                part = states[first : first + share.count].float().sum(0)
                # One whose memory was taken back is read again from its beginning.
                if sequence.row.tokens:
                    part += self._sums[sequence.id]
                self._sums[sequence.id] = part
            first += share.count

    def take(self, id: SequenceId) -> bytes:
        """Return a sequence's vector as little-endian float32; empty where numbers overflowed."""
        import torch  # noqa: PLC0415 - heavy

        total = self._sums.pop(id)
        vector = torch.nn.functional.normalize(total, dim=0).cpu()
        if not bool(torch.isfinite(vector).all()):
            return b""
        found: bytes = vector.numpy().astype("<f4").tobytes()
        return found

    def forget(self, ids: Iterable[SequenceId]) -> None:
        """Let go of sequences that are read no further."""
        for id in ids:
            self._sums.pop(id, None)
