"""Whether a model fits, and what vLLM is told of this machine: arithmetic, without the library."""

import dataclasses

import pytest

from forebay.engine.manifest import FORMAT, Form, Manifest
from forebay.engine.protocol import CannotLoad
from forebay.engines.kv_memory import TooLittleMemory
from forebay.engines.machine import Machine
from forebay.engines.vllm_config import (
    Precision,
    VllmConfig,
    batched_tokens,
    context_tokens,
    plan_on_cpu,
    precision_on_cpu,
    require_gpu_room,
)

GB = 1_000_000_000
EIGHT_B = Manifest(
    format=FORMAT,
    name="eight",
    source="hf:a/b",
    source_sha256="0" * 64,
    form=Form.SAFETENSORS,
    architecture="llama",
    precision="bf16",
    prepared_by="tests",
    parameters=8 * GB,
    weights_bytes=16 * GB,
    context_tokens_max=8_192,
    layers=32,
    width=4_096,
    kv_heads=8,
    head_size=128,
    vocabulary_size=128_256,
    eos_token_ids=(2,),
    special_tokens={},
    files={},
)


def test_a_model_larger_than_its_share_of_the_gpu_is_refused_with_the_numbers() -> None:
    with pytest.raises(CannotLoad, match=r"16000 MB, and 14400 MB .* 0\.90 of 16000 MB .* 1 GPUs"):
        require_gpu_room(VllmConfig(), EIGHT_B, total_bytes=16 * GB)


def test_a_model_that_two_gpus_hold_together_is_not_refused() -> None:
    require_gpu_room(VllmConfig(tensor_parallel_workers=2), EIGHT_B, total_bytes=16 * GB)


def test_what_the_kv_cache_takes_is_not_there_for_weights() -> None:
    config = VllmConfig(kv_cache_bytes=6 * GB)
    require_gpu_room(config, EIGHT_B, total_bytes=25 * GB)
    with pytest.raises(CannotLoad, match="less 6000 MB of KV cache"):
        require_gpu_room(config, EIGHT_B, total_bytes=24 * GB)


def test_on_a_processor_weights_count_in_the_precision_they_are_kept_in() -> None:
    roomy = plan_on_cpu(VllmConfig(), EIGHT_B, Precision.BFLOAT16, free_bytes=24 * GB)
    assert roomy.tokens * 131_072 == roomy.bytes <= 2 << 30
    with pytest.raises(TooLittleMemory, match=r"33259 MB for the model, and 24000 MB is free"):
        plan_on_cpu(VllmConfig(), EIGHT_B, Precision.FLOAT32, free_bytes=24 * GB)


def test_the_kv_cache_on_a_processor_is_what_was_asked_for() -> None:
    config = VllmConfig(kv_cache_bytes=1 << 30)
    plan = plan_on_cpu(config, EIGHT_B, Precision.FLOAT16, free_bytes=24 * GB)
    assert plan.bytes == 1 << 30


@pytest.mark.parametrize(
    ("asked", "abilities", "found"),
    [
        ("auto", {"avx512_bf16"}, Precision.BFLOAT16),
        ("auto", {"amx_bf16"}, Precision.BFLOAT16),
        ("auto", {"avx512f"}, Precision.FLOAT32),
        ("float16", {"avx512_bf16"}, Precision.FLOAT16),
    ],
)
def test_a_processor_keeps_weights_in_what_it_computes_in(
    asked: str, abilities: set[str], found: Precision
) -> None:
    machine = Machine(memory_bytes=1, processors=1, abilities=frozenset(abilities))
    config = dataclasses.replace(VllmConfig(), precision=asked)
    assert precision_on_cpu(config, machine) is found


def test_a_sequence_may_not_fill_the_last_blocks() -> None:
    assert context_tokens(8_192, 1_000_000, block_tokens=16) == 8_192
    assert context_tokens(8_192, 1_024, block_tokens=128) == 1_024 - 2 * 128
    assert context_tokens(8_192, 1_023, block_tokens=128) == 896 - 2 * 128


@pytest.mark.parametrize(
    ("asked", "sequences", "on_cpu", "found"),
    [(0, 64, True, 512), (0, 64, False, 2_048), (100, 64, False, 100), (100, 256, True, 256)],
)
def test_a_step_has_room_for_a_token_of_every_sequence(
    asked: int, sequences: int, *, on_cpu: bool, found: int
) -> None:
    config = VllmConfig(batched_tokens_max=asked, sequences_running_max=sequences)
    assert batched_tokens(config, on_cpu=on_cpu) == found
