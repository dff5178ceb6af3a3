"""GPUs, as NVIDIA's driver tells of them through NVML.

The library `nvidia-ml-py` is optional, and without it, a driver or a GPU there is no reading.
NVML may block for seconds, or for ever when a GPU has fallen off its bus: it is called from a
thread (`sampled.py`), never from the event loop.
"""

import importlib
from collections.abc import Callable
from typing import Any, Final

from forebay.telemetry.readings import GpuReading

GPUS_MAX: Final = 64
"""GPUs that are read; each has five series."""


class Gpus:
    """Reads every GPU; the library is looked for once."""

    def __init__(self, library: str = "pynvml") -> None:
        """Load nothing yet."""
        # The whole mutable state: the library, once it is there; whether it was looked for.
        self._library = library
        self._nvml: Any = None
        self._sought = False

    def read(self) -> tuple[GpuReading, ...]:
        """Return what each GPU says; none, if there is no GPU or nothing to ask it with."""
        if not self._sought:
            self._sought, self._nvml = True, _opened(self._library)
        nvml = self._nvml
        if nvml is None:
            return ()
        try:
            count = min(int(nvml.nvmlDeviceGetCount()), GPUS_MAX)
            return tuple(_reading(nvml, index) for index in range(count))
        except nvml.NVMLError:  # the driver was taken away, or a GPU fell off its bus
            return ()


def _opened(library: str) -> Any:  # noqa: ANN401 - the library has no types
    try:
        nvml = importlib.import_module(library)
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # no driver, or no GPU
        return None
    return nvml


def _reading(nvml: Any, index: int) -> GpuReading:  # noqa: ANN401 - the library has no types
    def told(ask: Callable[[], float]) -> float | None:
        # What one GPU does not tell, another may: a reading is made of what there is.
        try:
            return ask()
        except nvml.NVMLError:
            return None

    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        memory = None
    return GpuReading(
        index=index,
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        busy_ratio=told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
        temperature_celsius=told(
            lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        ),
        power_watts=told(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1_000),
    )
