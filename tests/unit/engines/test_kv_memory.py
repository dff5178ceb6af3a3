"""The KV cache gets whole blocks of what is free, or a refusal with the numbers."""

import pytest

from forebay.engines.kv_memory import (
    BLOCK_TOKENS,
    KvConfig,
    KvShape,
    KvWish,
    TooLittleMemory,
    plan_kv,
)

SMOLLM2 = KvShape(layers=30, kv_heads=3, head_size=64, element_bytes=2)
GB = 10**9


def a_wish(
    *,
    bytes_wanted: int = 0,
    bytes_max: int = 100 * GB,
    share_max: float = 0.5,
    tokens_useful: int = 10**9,
) -> KvWish:
    return KvWish(
        bytes_wanted=bytes_wanted,
        bytes_max=bytes_max,
        share_max=share_max,
        tokens_useful=tokens_useful,
        knob="any.kv_cache_bytes",
    )


def test_a_block_of_the_default_model_is_what_the_library_was_measured_to_take() -> None:
    assert SMOLLM2.block_bytes == 737_280


def test_unasked_it_takes_its_share_of_what_the_model_leaves() -> None:
    plan = plan_kv(SMOLLM2, a_wish(), free_bytes=5 * GB, reserved_bytes=GB)
    assert plan.blocks == 2 * GB // SMOLLM2.block_bytes
    assert plan.bytes == plan.blocks * SMOLLM2.block_bytes <= 2 * GB
    assert plan.tokens == plan.blocks * BLOCK_TOKENS


def test_unasked_it_never_takes_more_than_its_maximum() -> None:
    plan = plan_kv(SMOLLM2, a_wish(bytes_max=GB), free_bytes=100 * GB, reserved_bytes=0)
    assert GB - SMOLLM2.block_bytes < plan.bytes <= GB


def test_unasked_it_never_takes_more_than_could_be_used() -> None:
    plan = plan_kv(SMOLLM2, a_wish(tokens_useful=1_000), free_bytes=100 * GB, reserved_bytes=0)
    assert plan.tokens == 1_024


def test_what_is_asked_for_is_given_beyond_the_share() -> None:
    plan = plan_kv(SMOLLM2, a_wish(bytes_wanted=3 * GB), free_bytes=4 * GB, reserved_bytes=GB)
    assert 3 * GB - SMOLLM2.block_bytes < plan.bytes <= 3 * GB


@pytest.mark.parametrize(
    ("wanted", "free", "reserved"),
    [(0, GB, GB), (0, GB, 2 * GB), (4 * GB, 4 * GB, GB), (1_000, 4 * GB, GB)],
    ids=["nothing left", "the model does not fit", "more than there is", "less than is useful"],
)
def test_what_does_not_fit_is_refused_with_the_numbers(
    wanted: int, free: int, reserved: int
) -> None:
    with pytest.raises(TooLittleMemory) as refusal:
        plan_kv(SMOLLM2, a_wish(bytes_wanted=wanted), free_bytes=free, reserved_bytes=reserved)
    for number in (free, reserved):
        assert f"{number // 10**6} MB" in str(refusal.value)
    assert "set any.kv_cache_bytes" in str(refusal.value)


def test_an_engine_asks_for_what_its_own_settings_say() -> None:
    config = KvConfig(
        kv_cache_bytes=7, kv_cache_auto_bytes_max=2 << 20, kv_cache_auto_share_max=0.25
    )
    assert config.wish("onnx", tokens_useful=9) == KvWish(
        bytes_wanted=7,
        bytes_max=2 << 20,
        share_max=0.25,
        tokens_useful=9,
        knob="onnx.kv_cache_bytes",
    )
