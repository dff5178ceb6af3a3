"""Where a model in torch computes, and in which numbers."""

import enum
import importlib.util
from dataclasses import dataclass
from typing import Any, Final, assert_never

from forebay.core.knob import knob
from forebay.engine.protocol import CannotLoad
from forebay.engines.machine import Machine

_QUANTIZED_FACTOR: Final = 1.15
"""Scales, and what of a quantized model stays as it was."""


class Precision(enum.StrEnum):
    """How weights are kept while the model runs."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    INT8 = "int8"
    INT4 = "int4"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersConfig:
    """How the transformers engine uses this machine."""

    precision: str = knob(
        "auto",
        "How weights are kept: `auto` is bfloat16 on a GPU and on processors that compute in it, "
        "otherwise float32.",
        choices=tuple(Precision),
    )
    device: str = knob(
        "auto",
        "Where it computes: `auto` is a GPU if there is one.",
        choices=("auto", "cpu", "cuda"),
    )
    kv_cache_bytes: int = knob(
        0, "Memory of the KV cache, bytes; 0: sized from free memory.", minimum=0, maximum=2**40
    )
    kv_cache_auto_bytes_max: int = knob(
        2 << 30,
        "Most memory that the KV cache takes unasked, bytes; a GPU's, which has no other use, is "
        "taken up to nine tenths.",
        minimum=1 << 20,
        maximum=2**40,
    )
    kv_cache_auto_share_max: float = knob(
        0.5,
        "Most of the processor's free memory, after the model, that the KV cache takes unasked.",
        minimum=0.01,
        maximum=0.95,
    )
    sequences_running_max: int = knob(
        64, "Sequences that run in one batch.", minimum=1, maximum=1_024
    )
    batched_tokens_max: int = knob(
        512,
        "Tokens computed in one step: longer prompts are spread over steps.",
        minimum=32,
        maximum=65_536,
    )
    threads: int = knob(
        0, "Threads that compute; 0: the processors we may use.", minimum=0, maximum=1_024
    )
    adapters_max: int = knob(32, "LoRA adapters that are loaded at once.", minimum=0, maximum=1_024)
    adapter_bytes_max: int = knob(
        1 << 30, "Largest adapter file, bytes.", minimum=1 << 10, maximum=2**40
    )
    step_s_max: float = knob(
        10.0,
        "Longest that one step may take before the worker counts as stalled, seconds; for large "
        "models more, as measured while loading.",
        minimum=1.0,
        maximum=600.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What a model is kept and computed in."""

    device: Any
    """torch's."""
    precision: Precision
    """Of the weights; never AUTO."""
    compute: Any
    """torch's type of activations and of the KV memory."""

    @property
    def on_cpu(self) -> bool:
        """Whether a processor computes."""
        return bool(self.device.type == "cpu")

    @property
    def weight_bytes(self) -> float:
        """Bytes of one weight."""
        match self.precision:
            case Precision.FLOAT32:
                return 4.0
            case Precision.BFLOAT16 | Precision.FLOAT16:
                return 2.0
            case Precision.INT8:
                return 1.0 * _QUANTIZED_FACTOR
            case Precision.INT4:
                return 0.5 * _QUANTIZED_FACTOR
            case Precision.AUTO:
                raise AssertionError("settled before")
            case _:
                assert_never(self.precision)


def settle(config: TransformersConfig, machine: Machine) -> Numbers:
    """Decide for this machine; raises CannotLoad for what it cannot do."""
    device = _device(config)
    if _computes_bfloat16(device, machine):
        natural = Precision.BFLOAT16
    else:
        natural = Precision.FLOAT32 if device.type == "cpu" else Precision.FLOAT16
    asked = Precision(config.precision)
    precision = natural if asked is Precision.AUTO else asked
    _check_installed(precision)
    compute = _compute(precision, natural=natural)
    return Numbers(device=device, precision=precision, compute=compute)


def _device(config: TransformersConfig) -> Any:  # noqa: ANN401 - torch's
    import torch  # noqa: PLC0415 - heavy

    found = torch.cuda.is_available()
    if config.device == "cuda" and not found:
        raise CannotLoad(
            "transformers.device is cuda, and torch finds no GPU here. Install torch for CUDA and "
            "the driver, or set transformers.device to auto."
        )
    return torch.device("cuda" if found and config.device != "cpu" else "cpu")


def _computes_bfloat16(device: Any, machine: Machine) -> bool:  # noqa: ANN401 - torch's
    """Return whether it computes in bfloat16, rather than imitates it."""
    import torch  # noqa: PLC0415 - heavy

    if device.type == "cpu":
        return bool({"amx_bf16", "avx512_bf16"} & machine.abilities)
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _check_installed(precision: Precision) -> None:
    """Refuse a precision that needs a library which is not here."""
    quantized = precision in {Precision.INT8, Precision.INT4}
    if quantized and importlib.util.find_spec("bitsandbytes") is None:
        raise CannotLoad(
            f"transformers.precision {precision} needs bitsandbytes, which is not installed. Run "
            "`pip install bitsandbytes`, or set transformers.precision to auto."
        )


def _compute(precision: Precision, *, natural: Precision) -> Any:  # noqa: ANN401 - torch's
    """Return torch's type of activations, for weights of that precision."""
    import torch  # noqa: PLC0415 - heavy

    match precision:
        case Precision.FLOAT32 | Precision.BFLOAT16 | Precision.FLOAT16:
            return getattr(torch, precision)
        case Precision.INT8 | Precision.INT4:
            return getattr(torch, natural)
        case Precision.AUTO:
            raise AssertionError("settled before")
        case _:
            assert_never(precision)
