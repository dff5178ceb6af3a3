"""How much memory the KV cache gets: arithmetic, so that it is told before it is taken."""

from dataclasses import dataclass
from typing import Final

from forebay.core.knob import knob
from forebay.engine.manifest import Manifest
from forebay.engine.protocol import CannotLoad

BLOCK_TOKENS: Final = 32
"""Tokens of one KV block on a CPU (OpenVINO GenAI)."""

_BLOCKS_MIN: Final = 16
"""512 tokens: less serves nobody."""


class TooLittleMemory(CannotLoad):
    """The machine cannot hold the model and a useful KV cache; the text has the numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvShape:
    """What one token costs."""

    layers: int
    kv_heads: int
    head_size: int
    element_bytes: int

    @staticmethod
    def of(manifest: Manifest, *, element_bytes: int) -> "KvShape":
        """Return what a token of that model costs."""
        return KvShape(
            layers=manifest.layers,
            kv_heads=manifest.kv_heads,
            head_size=manifest.head_size,
            element_bytes=element_bytes,
        )

    @property
    def block_bytes(self) -> int:
        """Bytes of one block: keys and values of all layers."""
        per_token = 2 * self.layers * self.kv_heads * self.head_size * self.element_bytes
        return per_token * BLOCK_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class KvWish:
    """What was asked for."""

    bytes_wanted: int
    """0: as much as is useful and fits."""
    bytes_max: int
    """Most that is taken unasked."""
    share_max: float
    """Most of the free memory that is taken unasked."""
    tokens_useful: int
    """Tokens beyond which more memory has no use: sequences running x context."""
    knob: str
    """Which setting asks for another size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvConfig:
    """What an engine that sizes its KV cache itself can be told of that."""

    kv_cache_bytes: int = knob(
        0, "Memory of the KV cache, bytes; 0: sized from free memory.", minimum=0, maximum=2**40
    )
    kv_cache_auto_bytes_max: int = knob(
        2 << 30,
        "Most memory that the KV cache takes unasked, bytes.",
        minimum=1 << 20,
        maximum=2**40,
    )
    kv_cache_auto_share_max: float = knob(
        0.5,
        "Most of the free memory, after the model, that the KV cache takes unasked; a ratio.",
        minimum=0.01,
        maximum=0.95,
    )

    def wish(self, engine: str, *, tokens_useful: int) -> KvWish:
        """Return what that engine asks for."""
        return KvWish(
            bytes_wanted=self.kv_cache_bytes,
            bytes_max=self.kv_cache_auto_bytes_max,
            share_max=self.kv_cache_auto_share_max,
            tokens_useful=tokens_useful,
            knob=f"{engine}.kv_cache_bytes",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KvPlan:
    """What it gets: whole blocks."""

    blocks: int
    bytes: int
    tokens: int


def plan_kv(shape: KvShape, wish: KvWish, *, free_bytes: int, reserved_bytes: int) -> KvPlan:
    """Size the KV cache, or raise `TooLittleMemory`.

    `free_bytes` is what the machine has now, `reserved_bytes` what the model itself will take.
    """
    left = free_bytes - reserved_bytes
    if wish.bytes_wanted:
        granted = wish.bytes_wanted
    else:
        useful = -(-wish.tokens_useful // BLOCK_TOKENS) * shape.block_bytes
        granted = min(int(max(left, 0) * wish.share_max), wish.bytes_max, useful)
    blocks = granted // shape.block_bytes
    if granted > left or blocks < _BLOCKS_MIN:
        raise TooLittleMemory(
            f"The KV cache needs {_mb(max(granted, _BLOCKS_MIN * shape.block_bytes))} MB beside "
            f"{_mb(reserved_bytes)} MB for the model, and {_mb(free_bytes)} MB is free. Give the "
            f"process more memory, choose a smaller model, or set {wish.knob}."
        )
    return KvPlan(blocks=blocks, bytes=blocks * shape.block_bytes, tokens=blocks * BLOCK_TOKENS)


def _mb(size: int) -> int:
    return -(-size // 1_000_000)
