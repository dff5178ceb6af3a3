"""How llama.cpp uses this machine: its knobs, and what a model gets by them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forebay.core.knob import knob
from forebay.engine.manifest import ArtefactError, Manifest
from forebay.engines.kv_memory import KvConfig, KvPlan, KvShape, plan_kv

MODEL: Final = "model.gguf"
KV_STEP_TOKENS: Final = 256
"""The library rounds its KV cache up to so many tokens."""

_LIBRARY_BYTES: Final = 300 << 20
"""What a step computes with, and the library itself: 190 MB measured with a 135 MB model."""
_EDGE_TOKENS: Final = 8
"""A sequence ends a little before its context is full."""
_LAYERS_MAX: Final = 512
"""More, or none, and the library ends the process."""
_MAGIC: Final = b"GGUF"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppConfig(KvConfig):
    """How the llama.cpp engine uses this machine."""

    context_tokens_max: int = knob(
        0,
        "Prompt and answer of one sequence together; 0: as much as model and KV cache hold.",
        minimum=0,
        maximum=2**31 - 1,
    )
    sequences_running_max: int = knob(
        32, "Sequences that run in one batch; each has a thread.", minimum=1, maximum=256
    )
    batched_tokens_max: int = knob(
        512,
        "Tokens computed in one step: longer prompts are spread over steps.",
        minimum=32,
        maximum=65_536,
    )
    prefix_cache: bool = knob(
        default=True, help="Go on from the KV cache of an earlier prompt with the same beginning."
    )
    cache_ram_bytes: int = knob(
        0,
        "Memory for prompts that have left the KV cache, bytes; 0: they are forgotten.",
        minimum=0,
        maximum=2**40,
    )
    threads: int = knob(
        0, "Threads that compute; 0: the processors we may use.", minimum=0, maximum=512
    )
    step_s_max: float = knob(
        10.0,
        "Longest that one step may take before the worker counts as stalled, seconds.",
        minimum=1.0,
        maximum=600.0,
    )


def check_model(manifest: Manifest, folder: Path) -> None:
    """Refuse what would end the process."""
    with (folder / MODEL).open("rb") as file:
        magic = file.read(4)
    if magic != _MAGIC or not 1 <= manifest.layers <= _LAYERS_MAX:
        raise ArtefactError(
            f"{folder / MODEL} is not a GGUF that llama.cpp loads: it begins with {magic!r}, and "
            f"has {manifest.layers} layers of at most {_LAYERS_MAX}. Remove the folder and run "
            "`forebay pull MODEL` again."
        )


def context_tokens(config: LlamaCppConfig, manifest: Manifest, kv_tokens: int) -> int:
    """Return how many tokens one sequence may have."""
    most = min(manifest.context_tokens_max, kv_tokens) - _EDGE_TOKENS
    return min(most, config.context_tokens_max) if config.context_tokens_max else most


def size_kv(config: LlamaCppConfig, manifest: Manifest, folder: Path, *, free_bytes: int) -> KvPlan:
    """Size the KV cache, or raise TooLittleMemory with the numbers."""
    weights = sum((folder / name).stat().st_size for name in manifest.files)
    context = config.context_tokens_max or manifest.context_tokens_max
    return plan_kv(
        KvShape.of(manifest, element_bytes=2),
        config.wish("llamacpp", tokens_useful=config.sequences_running_max * context),
        free_bytes=free_bytes,
        reserved_bytes=weights + _LIBRARY_BYTES + config.cache_ram_bytes,
    )
