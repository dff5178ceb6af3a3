"""GPUs are read by NVML where there is one, and nothing that it does can fail a reading."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

from forebay.telemetry.gpu import GPUS_MAX, Gpus

NAME = "nvml_of_a_test"


class Driver(ModuleType):
    """NVML, as far as it is asked, for GPUs that tell what a test says."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        """What the library raises."""

    def __init__(self, gpus: int, *, silent: frozenset[str] = frozenset()) -> None:
        super().__init__(NAME)
        self.gpus = gpus
        self.silent = silent
        self.inits = 0

    def _tell(self, what: str) -> None:
        if what in self.silent:
            raise self.NVMLError(what)

    def nvmlInit(self) -> None:  # noqa: N802 - the library's name
        self.inits += 1
        self._tell("init")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the library's name
        self._tell("count")
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - the library's name
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802 - the library's name
        self._tell("memory")
        return SimpleNamespace(used=(handle + 1) << 30, total=80 << 30)

    def nvmlDeviceGetUtilizationRates(self, _: int) -> SimpleNamespace:  # noqa: N802 - the library's name
        self._tell("utilization")
        return SimpleNamespace(gpu=37, memory=5)

    def nvmlDeviceGetTemperature(self, _: int, sensor: int) -> int:  # noqa: N802 - the library's name
        assert sensor == self.NVML_TEMPERATURE_GPU
        self._tell("temperature")
        return 61

    def nvmlDeviceGetPowerUsage(self, _: int) -> int:  # noqa: N802 - the library's name
        self._tell("power")
        return 412_500


def gpus(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> Gpus:
    monkeypatch.setitem(sys.modules, NAME, driver)
    return Gpus(NAME)


def test_each_gpu_is_told_in_base_units(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = gpus(monkeypatch, Driver(2)).read()
    assert (first.index, second.index) == (0, 1)
    assert (first.memory_used_bytes, second.memory_used_bytes) == (1 << 30, 2 << 30)
    assert first.memory_total_bytes == 80 << 30
    assert first.busy_ratio == 0.37
    assert first.temperature_celsius == 61.0
    assert first.power_watts == 412.5


def test_what_a_gpu_does_not_tell_is_none_and_the_rest_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (found,) = gpus(monkeypatch, Driver(1, silent=frozenset({"power", "memory"}))).read()
    assert found.power_watts is None
    assert found.memory_used_bytes is None
    assert found.temperature_celsius == 61.0


def test_without_a_driver_there_is_nothing_and_it_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = Driver(1, silent=frozenset({"init"}))
    reader = gpus(monkeypatch, driver)
    assert [reader.read() for _ in range(3)] == [(), (), ()]
    assert driver.inits == 1


def test_a_driver_that_goes_away_leaves_nothing_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = Driver(1)
    reader = gpus(monkeypatch, driver)
    assert len(reader.read()) == 1
    driver.silent = frozenset({"count"})
    assert reader.read() == ()
    driver.silent = frozenset()
    assert len(reader.read()) == 1


def test_without_the_library_there_is_nothing() -> None:
    assert Gpus("a_library_that_nobody_has").read() == ()


def test_more_gpus_than_anybody_has_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(gpus(monkeypatch, Driver(1_000)).read()) == GPUS_MAX


@pytest.mark.skipif(
    importlib.util.find_spec("pynvml") is None, reason="nvidia-ml-py is not installed"
)
def test_the_real_library_knows_every_name_that_we_use() -> None:
    # Without a driver it reads nothing; with one, whatever there is.
    nvml = importlib.import_module("pynvml")
    for name in (word for word in dir(Driver) if word.lower().startswith("nvml")):
        assert hasattr(nvml, name), name
    assert all(0 <= gpu.index < GPUS_MAX for gpu in Gpus().read())
