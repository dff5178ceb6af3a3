"""Attention over a batch of sequences of all lengths, as transformers' models call it.

A step gives the model its tokens as so many "sequences" of one token each, whatever they belong
to: every other layer looks at one token at a time.  Attention is where they meet, and there the
model calls `attend`, which knows the pass: whose token each is, at which position, and where the
keys and values of those before it are kept.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from forebay.engines.transformers_kv import Row, Shelf

IMPLEMENTATION: Final = "forebay"
"""The name that a model's configuration asks for."""


@dataclass(slots=True, eq=False)
class Decode:
    """The sequences of one shelf that read one token each.  Rows ascend."""

    shelf: Shelf
    first: int
    """Where their tokens begin in the pass."""
    rows: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    masks: dict[int | None, Any] = field(default_factory=dict)
    index: tuple[Any, Any] | None = None

    def run(self, layer: int, heads: "Heads", how: "How") -> Any:  # noqa: ANN401 - torch's
        """Return what the tokens attend to: [tokens, heads, 1, head size]."""
        import torch  # noqa: PLC0415 - heavy

        shelf, count, used = self.shelf, len(self.rows), len(self.shelf.holders)
        query = heads.query
        keys, values = shelf.keys[layer], shelf.values[layer]
        if self.index is None:
            self.index = (
                torch.tensor(self.rows, device=query.device),
                torch.tensor(self.positions, device=query.device),
            )
        rows, positions = self.index
        keys[rows, :, positions] = heads.key[:, :, 0]
        values[rows, :, positions] = heads.value[:, :, 0]
        length = max(self.positions) + 1
        # The heads that share a key are so many queries of it: no key is copied.
        asked = query.reshape(count, keys.shape[1], -1, query.shape[-1])
        dense = count == used
        if not dense:
            spread = asked.new_zeros((used, *asked.shape[1:]))
            spread[rows] = asked
            asked = spread
        found = torch.nn.functional.scaled_dot_product_attention(
            asked,
            keys[:used, :, :length],
            values[:used, :, :length],
            attn_mask=self._mask(query, length, how.window),
            scale=how.scale,
        )
        return (found if dense else found[rows]).reshape(query.shape)

    def _mask(self, query: Any, length: int, window: int | None) -> Any:  # noqa: ANN401 - torch's
        import torch  # noqa: PLC0415 - heavy

        if window not in self.masks:
            used = len(self.shelf.holders)
            last = torch.zeros(used, 1, dtype=torch.long, device=query.device)
            assert self.index is not None, "set before"
            last[self.index[0], 0] = self.index[1]
            places = torch.arange(length, device=query.device)
            self.masks[window] = _additive(places, last, window=window).to(query.dtype)[
                :, None, None
            ]
        return self.masks[window]


@dataclass(slots=True, eq=False)
class Chunk:
    """Tokens of one prompt, in a row."""

    row: Row
    first: int
    position: int
    count: int
    masks: dict[int | None, Any] = field(default_factory=dict)

    def run(self, layer: int, heads: "Heads", how: "How") -> Any:  # noqa: ANN401 - torch's
        """Return what the tokens attend to: [tokens, heads, 1, head size]."""
        import torch  # noqa: PLC0415 - heavy

        shelf, count, query = self.row.shelf, self.count, heads.query
        assert shelf is not None, "it was held for this pass"
        keys, values = shelf.keys[layer][self.row.index], shelf.values[layer][self.row.index]
        end = self.position + count
        keys[:, self.position : end] = heads.key[:, :, 0].transpose(0, 1)
        values[:, self.position : end] = heads.value[:, :, 0].transpose(0, 1)
        groups, size = keys.shape[0], query.shape[-1]
        asked = query.reshape(count, groups, -1, size).permute(1, 2, 0, 3)
        shared = asked.shape[1]
        found = torch.nn.functional.scaled_dot_product_attention(
            asked.reshape(1, groups, shared * count, size),
            keys[None, :, :end],
            values[None, :, :end],
            attn_mask=self._mask(query, shared, how.window),
            scale=how.scale,
        )
        found = found.view(groups, shared, count, size).permute(2, 0, 1, 3)
        return found.reshape(query.shape)

    def _mask(self, query: Any, shared: int, window: int | None) -> Any:  # noqa: ANN401 - torch's
        import torch  # noqa: PLC0415 - heavy

        if window not in self.masks:
            end = self.position + self.count
            places = torch.arange(end, device=query.device)
            mask = _additive(places, places[self.position :, None], window=window).to(query.dtype)
            self.masks[window] = mask.repeat(shared, 1)[None, None]
        return self.masks[window]


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """What a layer made of some tokens, torch's: [tokens, heads, 1, head size]."""

    query: Any
    key: Any
    value: Any


@dataclass(frozen=True, slots=True)
class How:
    """What a layer says of its attention."""

    scale: float | None
    window: int | None


@dataclass(slots=True, eq=False)
class Pass:
    """One run of the model: what is read of whom."""

    parts: list[Decode | Chunk]


def attend(  # noqa: PLR0913, PLR0917 - the library's signature
    module: Any,  # noqa: ANN401 - the library's
    query: Any,  # noqa: ANN401 - torch's
    key: Any,  # noqa: ANN401 - torch's
    value: Any,  # noqa: ANN401 - torch's
    _mask: Any,  # noqa: ANN401 - none is made for us
    *,
    forebay_pass: Pass,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,  # noqa: ANN401 - what else a model may say was compared while it was loaded
) -> tuple[Any, None]:
    """Attend: tensors are [tokens, heads, 1, head size]; [tokens, 1, heads, head size] returns."""
    import torch  # noqa: PLC0415 - heavy

    how = How(scaling, sliding_window)
    found = []
    for part in forebay_pass.parts:
        count = len(part.rows) if isinstance(part, Decode) else part.count
        span = slice(part.first, part.first + count)
        found.append(part.run(module.layer_idx, Heads(query[span], key[span], value[span]), how))
    whole = found[0] if len(found) == 1 else torch.cat(found)
    return whole.transpose(1, 2), None


def _additive(places: Any, last: Any, *, window: int | None) -> Any:  # noqa: ANN401 - torch's
    """Return 0 where a place may be seen from `last`, else minus infinity."""
    import torch  # noqa: PLC0415 - heavy

    seen = places <= last
    if window is not None:
        seen &= places > last - window
    return places.new_zeros(seen.shape, dtype=torch.float32).masked_fill_(~seen, float("-inf"))
