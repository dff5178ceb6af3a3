"""A stand-in for NVIDIA's library: GPUs that are as a file says, for machines without any.

Whoever puts this folder on PYTHONPATH gets it in place of `nvidia-ml-py`.  `DRILL_GPUS` names a
file with a JSON list of objects: `used`, `total` (bytes) and `utilization` (percent) of each GPU.
The names are NVIDIA's.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NVML_TEMPERATURE_GPU: Final = 0
_CELSIUS: Final = 60
_MILLIWATTS: Final = 300_000


class NVMLError(Exception):
    """What the library raises."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    total: int
    used: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Percent."""

    gpu: int


def nvmlInit() -> None:  # noqa: N802 - NVIDIA's name
    """Begin."""


def nvmlShutdown() -> None:  # noqa: N802 - NVIDIA's name
    """End."""


def nvmlDeviceGetCount() -> int:  # noqa: N802 - NVIDIA's name
    """Return how many GPUs there are."""
    return len(_gpus())


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802 - NVIDIA's name
    """Return what a GPU is called by."""
    return index


def nvmlDeviceGetMemoryInfo(handle: int) -> Memory:  # noqa: N802 - NVIDIA's name
    """Return the memory of a GPU."""
    gpu = _gpus()[handle]
    return Memory(total=gpu["total"], used=gpu["used"])


def nvmlDeviceGetUtilizationRates(handle: int) -> Rates:  # noqa: N802 - NVIDIA's name
    """Return how busy a GPU is."""
    return Rates(gpu=_gpus()[handle]["utilization"])


def nvmlDeviceGetTemperature(_handle: int, _sensor: int) -> int:  # noqa: N802 - NVIDIA's name
    """Return the temperature of a GPU."""
    return _CELSIUS


def nvmlDeviceGetPowerUsage(_handle: int) -> int:  # noqa: N802 - NVIDIA's name
    """Return the power that a GPU draws."""
    return _MILLIWATTS


def _gpus() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        Path(os.environ["DRILL_GPUS"]).read_text(encoding="utf-8")
    )
    return found
