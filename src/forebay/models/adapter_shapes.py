"""The matrices of a LoRA adapter, and whether they fit a base model."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forebay.engine.manifest import Manifest
from forebay.models.safetensors_file import StoredTensor, read_tensors
from forebay.models.stages import PreparationError

RANK_MAX: Final = 1_024
"""Common are 4 to 64; llama.cpp and vLLM stop at 512."""
_PAIRS_MAX: Final = 20_000
_NAME: Final = re.compile(
    r"(?:base_model\.model\.)?([A-Za-z0-9_.]{1,200})\.lora_([AB])(?:\.default)?\.weight"
)
_LAYER: Final = re.compile(r"\.(?:layers|h)\.(\d{1,4})\.")
_TYPES: Final = frozenset({"F32", "F16", "BF16"})

_FROM_WIDTH: Final = frozenset(
    {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "c_attn", "c_fc", "lm_head"}
)
_TO_WIDTH: Final = frozenset({"o_proj", "down_proj", "c_proj", "embed_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What is added to one matrix: B x A."""

    module: str
    """Where in the model: `model.layers.0.self_attn.q_proj`."""
    rank: int
    inputs: int
    outputs: int

    @property
    def kind(self) -> str:
        """The module's own name: `q_proj`."""
        return self.module.rpartition(".")[2]


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Return the pairs in an adapter's weights, or raise `PreparationError`."""
    halves: dict[str, dict[str, StoredTensor]] = {}
    for tensor in read_tensors(path):
        match = _NAME.fullmatch(tensor.name)
        if match is None or tensor.dtype not in _TYPES or len(tensor.shape) != 2:  # noqa: PLR2004 - a matrix
            raise PreparationError(
                f"{path.name} holds {tensor.name[:96]!r} ({tensor.dtype}), which is not a matrix "
                "lora_A or lora_B. Only plain LoRA is applied: no DoRA, no biases, no whole "
                "modules saved beside it. Merge those into the base, or train without them."
            )
        halves.setdefault(match[1], {})[match[2]] = tensor
    if not 1 <= len(halves) <= _PAIRS_MAX:
        raise PreparationError(
            f"{path.name} changes {len(halves)} matrices; 1 to {_PAIRS_MAX} are possible."
        )
    return tuple(_pair(path, module, half) for module, half in sorted(halves.items()))


def _pair(path: Path, module: str, half: Mapping[str, StoredTensor]) -> Pair:
    if len(half) != 2 or half["A"].shape[0] != half["B"].shape[1]:  # noqa: PLR2004 - A and B
        raise PreparationError(
            f"{path.name} has no matching lora_A and lora_B for {module[:96]!r}. "
            "Fetch the adapter again."
        )
    rank, inputs = half["A"].shape
    if not 1 <= rank <= RANK_MAX:
        raise PreparationError(
            f"{path.name} has rank {rank} at {module[:96]!r}; 1 to {RANK_MAX} are possible."
        )
    return Pair(module=module, rank=rank, inputs=inputs, outputs=half["B"].shape[0])


def require_fit(pairs: Iterable[Pair], base: Manifest) -> None:
    """Raise `PreparationError` with the first matrix that cannot be one of the base's."""
    for pair in pairs:
        layer = _LAYER.search(f".{pair.module}.")
        if layer and int(layer[1]) >= base.layers:
            raise _misfit(pair, base, f"the model has {base.layers} layers")
        if pair.kind in _FROM_WIDTH and pair.inputs != base.width:
            raise _misfit(pair, base, f"it takes {pair.inputs} numbers, the model has {base.width}")
        if pair.kind in _TO_WIDTH and pair.outputs != base.width:
            raise _misfit(pair, base, f"it makes {pair.outputs} numbers, not {base.width}")
        wanted = {
            "k_proj": base.kv_heads * base.head_size,
            "v_proj": base.kv_heads * base.head_size,
            "c_attn": 3 * base.width,
        }.get(pair.kind, pair.outputs)
        if pair.outputs != wanted:
            raise _misfit(pair, base, f"it makes {pair.outputs} numbers, the model {wanted}")


def _misfit(pair: Pair, base: Manifest, why: str) -> PreparationError:
    return PreparationError(
        f"The adapter does not fit {base.name}: at {pair.module[:96]!r} {why}. It was trained on "
        "another model; serve it on that one."
    )
