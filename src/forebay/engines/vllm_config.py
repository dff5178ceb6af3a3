"""How vLLM uses this machine: its knobs, and whether a model fits before any of it is loaded."""

import enum
from dataclasses import dataclass
from typing import Final

from forebay.core.knob import knob
from forebay.engine.manifest import Manifest
from forebay.engine.protocol import CannotLoad
from forebay.engines.kv_memory import KvPlan, KvShape, KvWish, plan_kv
from forebay.engines.machine import Machine

BLOCK_TOKENS: Final = 128
"""Tokens of one KV block of the library on a processor."""

_LIBRARY_BYTES: Final = 1_200 << 20
"""torch, the library and a step's activations: 1.1 GB measured with a 135 MB model."""
_BATCHED_TOKENS_GPU: Final = 2_048
_BATCHED_TOKENS_CPU: Final = 512
_BLOCKS_SPARE: Final = 2
"""One block the library keeps for padding, and one may be half full."""


class Precision(enum.StrEnum):
    """How weights are kept while the model runs, where the artefact is not quantized itself."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Compilation(enum.StrEnum):
    """Whether the library compiles the model before it serves."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmConfig:
    """How the vLLM engine uses this machine."""

    precision: str = knob(
        "auto",
        "How weights are kept, unless they are quantized: `auto` is what the model says on a GPU, "
        "bfloat16 on processors that compute in it, otherwise float32.",
        choices=tuple(Precision),
    )
    compilation: str = knob(
        "auto",
        "Whether the model is compiled, which takes minutes: `auto` is yes on a GPU (and CUDA "
        "graphs), no on a processor.",
        choices=tuple(Compilation),
    )
    gpu_memory_ratio: float = knob(
        0.9,
        "Share of each GPU's memory for weights, activations and KV cache together.",
        minimum=0.05,
        maximum=0.99,
    )
    tensor_parallel_workers: int = knob(
        1, "GPUs that share one model; each has a process of its own.", minimum=1, maximum=64
    )
    kv_cache_bytes: int = knob(
        0,
        "Memory of the KV cache, bytes; 0: what `gpu_memory_ratio` leaves, or on a processor sized "
        "from free memory.",
        minimum=0,
        maximum=2**40,
    )
    kv_cache_auto_bytes_max: int = knob(
        2 << 30,
        "Most memory that the KV cache takes unasked on a processor, bytes.",
        minimum=1 << 20,
        maximum=2**40,
    )
    kv_cache_auto_share_max: float = knob(
        0.5,
        "Most of a processor's free memory, after the model, that the KV cache takes unasked.",
        minimum=0.01,
        maximum=0.95,
    )
    sequences_running_max: int = knob(
        64, "Sequences that run in one batch.", minimum=1, maximum=1_024
    )
    batched_tokens_max: int = knob(
        0,
        "Tokens computed in one step: longer prompts are spread over steps; 0: 2,048 on a GPU, "
        "512 on a processor.",
        minimum=0,
        maximum=65_536,
    )
    prefix_cache: bool = knob(default=True, help="Share the KV blocks of equal prompt beginnings.")
    threads: int = knob(
        0,
        "Threads that compute on a processor; 0: the processors we may use.",
        minimum=0,
        maximum=1_024,
    )
    adapters_max: int = knob(
        0,
        "LoRA adapters that are loaded at once. Memory for all of them is set aside, and without "
        "any the model is faster; 0: none can be loaded.",
        minimum=0,
        maximum=256,
    )
    adapter_rank_max: int = knob(
        16, "Highest rank of an adapter; memory is set aside for it.", minimum=1, maximum=512
    )
    step_s_max: float = knob(
        10.0,
        "Longest that one step may take before the worker counts as stalled, seconds; for large "
        "models more, as measured while loading.",
        minimum=1.0,
        maximum=600.0,
    )


def batched_tokens(config: VllmConfig, *, on_cpu: bool) -> int:
    """Return how many tokens a step computes at most; each sequence has one at least."""
    usual = _BATCHED_TOKENS_CPU if on_cpu else _BATCHED_TOKENS_GPU
    return max(config.batched_tokens_max or usual, config.sequences_running_max)


def precision_on_cpu(config: VllmConfig, machine: Machine) -> Precision:
    """Return the precision on a processor; never AUTO."""
    asked = Precision(config.precision)
    if asked is not Precision.AUTO:
        return asked
    native = {"amx_bf16", "avx512_bf16"} & machine.abilities
    return Precision.BFLOAT16 if native else Precision.FLOAT32


def plan_on_cpu(
    config: VllmConfig, manifest: Manifest, precision: Precision, *, free_bytes: int
) -> KvPlan:
    """Size the KV cache on a processor, or raise TooLittleMemory with the numbers."""
    size = 4 if precision is Precision.FLOAT32 else 2
    shape = KvShape.of(manifest, element_bytes=size)
    wish = KvWish(
        bytes_wanted=config.kv_cache_bytes,
        bytes_max=config.kv_cache_auto_bytes_max,
        share_max=config.kv_cache_auto_share_max,
        tokens_useful=config.sequences_running_max * manifest.context_tokens_max,
        knob="vllm.kv_cache_bytes",
    )
    weights = max(manifest.parameters * size, manifest.weights_bytes)
    reserved = weights + _LIBRARY_BYTES
    return plan_kv(shape, wish, free_bytes=free_bytes, reserved_bytes=reserved)


def context_tokens(known: int, kv_tokens: int, *, block_tokens: int) -> int:
    """Return how many tokens one sequence may have: the model's, or what the KV cache holds."""
    return min(known, kv_tokens // block_tokens * block_tokens - _BLOCKS_SPARE * block_tokens)


def require_gpu_room(config: VllmConfig, manifest: Manifest, *, total_bytes: int) -> None:
    """Refuse a model that is larger than its share of the GPUs; `total_bytes` is of each."""
    gpus = config.tensor_parallel_workers
    room = (int(total_bytes * config.gpu_memory_ratio) - config.kv_cache_bytes) * gpus
    if manifest.weights_bytes > room:
        raise CannotLoad(
            f"The model's weights take {_mb(manifest.weights_bytes)} MB, and {_mb(max(room, 0))} "
            f"MB is for them: {config.gpu_memory_ratio:.2f} of {_mb(total_bytes)} MB on each of "
            f"{gpus} GPUs, less {_mb(config.kv_cache_bytes)} MB of KV cache each. Choose a smaller "
            "or quantized model, or raise vllm.tensor_parallel_workers."
        )


def _mb(size: int) -> int:
    return -(-size // 1_000_000)
