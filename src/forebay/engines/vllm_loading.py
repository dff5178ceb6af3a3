"""vLLM's engine in this process: no network, no telemetry, no code that comes with a model.

The library is told what it is by environment variables, which it reads when it is imported and
once more when an engine is made.  What a prepared folder says is not left to its guesses:
which tokens end an answer, how tokens are chosen, and which file is the tokenizer.
"""

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.engine.manifest import TOKENIZER, Manifest
from forebay.engine.protocol import CannotLoad
from forebay.engines.machine import read_machine
from forebay.engines.vllm_config import (
    BLOCK_TOKENS,
    Compilation,
    VllmConfig,
    batched_tokens,
    context_tokens,
    plan_on_cpu,
    precision_on_cpu,
    require_gpu_room,
)
from forebay.engines.vllm_sampling import refusals

_ENVIRONMENT: Final = {
    # The engine in this process, without signal handlers of its own; one of a group of one or
    # more, which talk to each other on this machine only.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    # Nothing is told to anybody, and nothing is fetched.
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_COLOR": "0",
}
_ADAPTERS_SPARE: Final = 2
"""Places for adapters beyond those with a name: one that was replaced while it is used; and on
a processor, tokens without an adapter read the last place, which therefore stays empty."""
_CONTEXT_MIN: Final = 128
"""Less serves nobody."""
_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
"""What the library sets memory aside for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An engine of the library that is ready to compute."""

    engine: Any
    """`vllm.LLMEngine`."""
    device: str
    precision: str
    context_tokens_max: int
    batched_tokens_max: int
    kv_tokens_max: int
    kv_bytes: int


def load(config: VllmConfig, manifest: Manifest, folder: Path) -> Loaded:
    """Load a verified folder; raises CannotLoad with the fix, before memory is taken in vain."""
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would overrule vllm.kv_cache_bytes
    from vllm.platforms import current_platform  # noqa: PLC0415 - heavy

    device = str(current_platform.device_type)
    if not device:
        raise CannotLoad(
            "The vLLM that is installed finds no device that it was built for. Install its build "
            "for this machine (docs/engines.md)."
        )
    on_cpu = bool(current_platform.is_cpu())
    sizes = _on_cpu(config, manifest) if on_cpu else _on_gpu(config, manifest, current_platform)
    with _tokenizer(manifest, folder) as tokenizer:
        arguments = _arguments(config, folder, tokenizer, on_cpu=on_cpu)
        engine = _open(arguments | sizes, folder)
    try:
        return _told(engine, manifest, device)
    except CannotLoad:
        close(engine)
        raise


def close(engine: Any) -> None:  # noqa: ANN401 - the library's
    """End an engine and give its memory back."""
    engine.engine_core.shutdown()
    del engine.engine_core, engine.model_executor
    _clean()


def _clean() -> None:
    """Give back what an engine leaves behind, or one that could not be made."""
    from vllm.distributed import cleanup_dist_env_and_memory  # noqa: PLC0415 - heavy

    cleanup_dist_env_and_memory()
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


def _told(engine: Any, manifest: Manifest, device: str) -> Loaded:  # noqa: ANN401 - the library's
    """Return what the library has made of it."""
    model, cache = engine.vllm_config.model_config, engine.vllm_config.cache_config
    kv_tokens = cache.num_gpu_blocks * cache.block_size
    known = min(manifest.context_tokens_max, model.max_model_len)
    context = context_tokens(known, kv_tokens, block_tokens=cache.block_size)
    if context < _CONTEXT_MIN:
        raise CannotLoad(
            f"The KV cache holds {kv_tokens} tokens, which leaves {max(context, 0)} for a "
            "sequence. Raise vllm.kv_cache_bytes or vllm.gpu_memory_ratio, or choose a smaller "
            "model."
        )
    element = model.dtype.itemsize
    token_bytes = 2 * manifest.layers * manifest.kv_heads * manifest.head_size * element
    precision = str(model.dtype).removeprefix("torch.")
    return Loaded(
        engine=engine,
        device=device,
        precision=f"{model.quantization} in {precision}" if model.quantization else precision,
        context_tokens_max=context,
        batched_tokens_max=engine.vllm_config.scheduler_config.max_num_batched_tokens,
        kv_tokens_max=kv_tokens,
        kv_bytes=kv_tokens * token_bytes,
    )


def _on_cpu(config: VllmConfig, manifest: Manifest) -> dict[str, Any]:
    """Return what of the library's arguments a processor decides."""
    import torch  # noqa: PLC0415 - heavy

    if config.tensor_parallel_workers != 1:
        raise CannotLoad(
            "vllm.tensor_parallel_workers divides a model between GPUs; here is none. Set 1."
        )
    machine = read_machine()
    precision = precision_on_cpu(config, machine)
    plan = plan_on_cpu(config, manifest, precision, free_bytes=machine.memory_bytes)
    torch.set_num_threads(config.threads or machine.processors)
    kv_tokens = plan.tokens // BLOCK_TOKENS * BLOCK_TOKENS
    context = context_tokens(manifest.context_tokens_max, kv_tokens, block_tokens=BLOCK_TOKENS)
    return {
        "dtype": str(precision),
        "kv_cache_memory_bytes": plan.bytes,
        "max_model_len": max(context, _CONTEXT_MIN),
        "block_size": BLOCK_TOKENS,
    }


def _on_gpu(config: VllmConfig, manifest: Manifest, platform: Any) -> dict[str, Any]:  # noqa: ANN401 - the library's
    """Return what of the library's arguments a GPU decides."""
    require_gpu_room(config, manifest, total_bytes=platform.get_device_total_memory())
    return {
        "dtype": str(config.precision),
        "kv_cache_memory_bytes": config.kv_cache_bytes or None,
        "max_model_len": -1,  # as much as fits
    }


def _compiled(config: VllmConfig, *, on_cpu: bool) -> bool:
    asked = Compilation(config.compilation)
    return asked is Compilation.ON or (asked is Compilation.AUTO and not on_cpu)


def _arguments(
    config: VllmConfig, folder: Path, tokenizer: Path, *, on_cpu: bool
) -> dict[str, Any]:
    """Return the library's arguments, beside those that the device decides."""
    adapters: dict[str, Any] = {}
    if config.adapters_max:
        places = config.adapters_max + _ADAPTERS_SPARE
        rank = next(rank for rank in _RANKS if rank >= config.adapter_rank_max)
        adapters = {
            "enable_lora": True,
            "max_loras": places,
            "max_cpu_loras": places,
            "max_lora_rank": rank,
        }
    return adapters | {
        "model": str(folder),
        "tokenizer": str(tokenizer),
        "load_format": "safetensors",
        "trust_remote_code": False,
        # Ours only: neither sampling nor ends are taken from generation_config.json.
        "generation_config": "vllm",
        "max_num_seqs": config.sequences_running_max,
        "max_num_batched_tokens": batched_tokens(config, on_cpu=on_cpu),
        "enable_chunked_prefill": True,
        "enable_prefix_caching": config.prefix_cache,
        "gpu_memory_utilization": config.gpu_memory_ratio,
        "tensor_parallel_size": config.tensor_parallel_workers,
        "distributed_executor_backend": "uni" if config.tensor_parallel_workers == 1 else "mp",
        "enforce_eager": not _compiled(config, on_cpu=on_cpu),
        # One library of grammars: it keeps the first that a request needs for all others.
        "structured_outputs_config": {"backend": "xgrammar"},
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "seed": 0,
    }


def _open(arguments: dict[str, Any], folder: Path) -> Any:  # noqa: ANN401 - the library's
    from vllm import EngineArgs, LLMEngine  # noqa: PLC0415 - heavy

    try:
        return LLMEngine.from_engine_args(EngineArgs(**arguments))
    except refusals(OSError, LookupError, RuntimeError, ImportError) as error:
        _clean()
        raise CannotLoad(
            f"{folder} cannot be loaded by vLLM: {type(error).__name__}, {str(error)[:500]}. It "
            "must be config.json and safetensors of an architecture that vLLM itself knows, and "
            "fit into memory."
        ) from error


@contextmanager
def _tokenizer(manifest: Manifest, folder: Path) -> Iterator[Path]:
    """Make a folder with the tokenizer as the library's grammars need it, while it loads."""
    texts = {id: text for text, id in manifest.special_tokens.items()}
    facts = {"tokenizer_class": "PreTrainedTokenizerFast"}
    ends = [texts[id] for id in manifest.eos_token_ids if id in texts]
    if ends:
        facts["eos_token"] = ends[0]
    with tempfile.TemporaryDirectory(prefix="forebay-vllm-") as name:
        made = Path(name)
        for file in (TOKENIZER, "config.json"):
            (made / file).symlink_to((folder / file).resolve())
        (made / "tokenizer_config.json").write_bytes(msgspec.json.encode(facts))
        yield made
