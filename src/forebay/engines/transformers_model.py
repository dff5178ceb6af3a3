"""One pass of a transformers model over tokens of many sequences, and the proof that it is right.

A model is asked for what its authors wrote; only where its tokens meet, in attention, is it told
of sequences (`transformers_attention`).  Not every architecture keeps to that, so while it is
loaded it answers once by its own plain path and once by ours, and the answers must agree.
"""

from collections.abc import Sequence
from typing import Any, Final

from forebay.core.request import TokenId
from forebay.engine.protocol import CannotLoad
from forebay.engines.transformers_attention import IMPLEMENTATION, Chunk, Decode, Pass, attend
from forebay.engines.transformers_batch import Share
from forebay.engines.transformers_embedding import Pooling
from forebay.engines.transformers_kv import KvStore, Row

_COMPARED_TOKENS: Final = 24
_STRIDE: Final = 7_919
_TOLERANCE_FULL: Final = 1e-3
"""Of the largest logit: the order of sums differs."""
_TOLERANCE_SHORT: Final = 0.06
"""The same where numbers have 8 bits of mantissa or less, or weights are quantized."""


class BatchedModel:
    """A model that reads any tokens of any sequences at once."""

    def __init__(self, model: Any, store: KvStore, *, device: Any) -> None:  # noqa: ANN401 - the library's
        """Take over how the model attends, and of which tokens it gives logits."""
        import transformers  # noqa: PLC0415 - heavy

        transformers.AttentionInterface.register(IMPLEMENTATION, attend)
        self._model = model
        self._store = store
        self._device = device
        # The whole mutable state.
        self.pooling: Final = Pooling()
        """What becomes of sequences that end with a vector."""
        self._pooled: Sequence[Share] = ()
        """The shares of the present pass, if there are such sequences among them."""
        self._kept: Any = None
        """Which tokens of the present pass get logits; None: all of them."""
        model.get_output_embeddings().register_forward_pre_hook(self._keep)

    def prove(self, vocabulary_size: int) -> None:
        """Compare our path with the model's own, and change over; CannotLoad if they differ."""
        import torch  # noqa: PLC0415 - heavy

        architecture = self._model.config.model_type
        token_ids = [place * _STRIDE % vocabulary_size for place in range(_COMPARED_TOKENS)]
        with torch.inference_mode():
            own = self._model(torch.tensor([token_ids], device=self._device), use_cache=False)
            expected = own.logits[0, -1].float()
            try:
                self._model.set_attn_implementation(IMPLEMENTATION)
                found = self._read_in_parts(token_ids).float()
            except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
                raise CannotLoad(
                    f"Models of the kind {architecture} cannot be batched by this engine "
                    f"({type(error).__name__}). Use another engine for it."
                ) from error
        full = expected.dtype == own.logits.dtype and not getattr(
            self._model, "is_quantized", False
        )
        off = float((found - expected).abs().max() / expected.abs().max())
        if not off <= (_TOLERANCE_FULL if full else _TOLERANCE_SHORT):  # NaN is off too
            raise CannotLoad(
                f"Models of the kind {architecture} attend in a way that this engine does not "
                f"know: its logits are off by {off:.1%}. Use another engine for it."
            )

    def _read_in_parts(self, token_ids: Sequence[TokenId]) -> Any:  # noqa: ANN401 - torch's
        """Read two chunks and one token, as a batch would."""
        row, logits = Row(), None
        for end in (len(token_ids) // 2, len(token_ids) - 1, len(token_ids)):
            count = end - row.tokens
            self._store.hold(row, end, expected=end)
            part = Decode(row.shelf, 0) if count == 1 and row.shelf else Chunk(row, 0, 0, count)
            if isinstance(part, Decode):
                part.rows.append(row.index)
                part.positions.append(row.tokens)
            else:
                part.position = row.tokens
            logits = self._run(list(token_ids[row.tokens : end]), [part], kept=[count - 1])
            row.tokens = end
        self._store.release([row])
        assert logits is not None, "there are three parts"
        return logits[0]

    def read(self, shares: Sequence[Share]) -> Any:  # noqa: ANN401 - torch's
        """Return logits, [shares that are the last of theirs, vocabulary], in the order given.

        Sequences that make no tokens have none.  `shares` are in the order of `arrange`.
        Afterwards they are read.
        """
        import torch  # noqa: PLC0415 - heavy

        parts: list[Decode | Chunk] = []
        token_ids: list[TokenId] = []
        kept = []
        for share in shares:
            sequence, row = share.sequence, share.sequence.row
            assert row.shelf is not None, "it was held for this pass"
            first = len(token_ids)
            if is_decode(share):
                if (
                    not parts
                    or not isinstance(last := parts[-1], Decode)
                    or (last.shelf is not row.shelf)
                ):
                    parts.append(last := Decode(row.shelf, first))
                last.rows.append(row.index)
                last.positions.append(row.tokens)
            else:
                parts.append(Chunk(row, first, row.tokens, share.count))
            token_ids += sequence.tokens[row.tokens : row.tokens + share.count]
            if sequence.sampling.embed:
                self._pooled = shares
            elif share.last:
                kept.append(len(token_ids) - 1)
        with torch.inference_mode():
            logits = self._run(token_ids, parts, kept=kept)
        for share in shares:
            share.sequence.row.tokens += share.count
        return logits

    def _run(
        self, token_ids: list[TokenId], parts: list[Decode | Chunk], *, kept: list[int]
    ) -> Any:  # noqa: ANN401 - torch's
        import torch  # noqa: PLC0415 - heavy

        positions: list[int] = []
        for part in parts:
            if isinstance(part, Decode):
                positions += part.positions
            else:
                positions += range(part.position, part.position + part.count)
        self._kept = torch.tensor(kept, dtype=torch.long, device=self._device)
        try:
            output = self._model(
                input_ids=torch.tensor(token_ids, device=self._device)[:, None],
                position_ids=torch.tensor(positions, device=self._device)[:, None],
                use_cache=False,
                forebay_pass=Pass(parts),
            )
        finally:
            self._kept, self._pooled = None, ()
        return output.logits[:, 0]

    def _keep(self, _module: Any, args: Any) -> Any:  # noqa: ANN401 - torch's
        """Spare the vocabulary for tokens that nothing is chosen after."""
        if self._kept is None:
            return None
        if self._pooled:
            self.pooling.add(self._pooled, args[0][:, 0])
        return (args[0][self._kept], *args[1:])


def is_decode(share: Share) -> bool:
    """Return whether it is the one token of a sequence that is being answered."""
    return share.count == 1 and share.last


def arrange(shares: Sequence[Share]) -> list[Share]:
    """Return the order in which a pass reads: single tokens by shelf and row, then chunks."""

    def place(share: Share) -> tuple[bool, int, int]:
        row = share.sequence.row
        assert row.shelf is not None, "it was held for this pass"
        return (not is_decode(share), row.shelf.capacity, row.index)

    return sorted(shares, key=place)
