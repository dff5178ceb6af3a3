"""What the server runs on, as metrics; what is not known has no series."""

from collections.abc import Iterator

from prometheus_client.core import Metric as Family

from forebay.telemetry import machine_catalogue
from forebay.telemetry.families import counter, gauge
from forebay.telemetry.readings import MachineReading


def of_machine(reading: MachineReading) -> Iterator[Family]:
    """Yield the families of one reading."""
    for metric, value in (
        (machine_catalogue.MEMORY_USED, reading.memory_used_bytes),
        (machine_catalogue.MEMORY_LIMIT, reading.memory_limit_bytes),
        (machine_catalogue.CPU_LIMIT, reading.cpu_limit_cores),
        (machine_catalogue.CERTIFICATE_EXPIRY, reading.certificate_expires_s),
    ):
        level = gauge(metric)
        if value is not None:
            level.add_metric([], value)
        yield level
    throttled = counter(machine_catalogue.CPU_THROTTLED)
    if reading.cpu_throttled_s is not None:
        throttled.add_metric([], reading.cpu_throttled_s)
    yield throttled
    free, size = gauge(machine_catalogue.DISK_FREE), gauge(machine_catalogue.DISK_SIZE)
    for volume in machine_catalogue.VOLUMES:
        disk = reading.disks.get(volume)
        if disk is not None:
            free.add_metric([volume], disk.free_bytes)
            size.add_metric([volume], disk.size_bytes)
    yield from (free, size)
    yield from _of_gpus(reading)


def _of_gpus(reading: MachineReading) -> Iterator[Family]:
    for metric, name in (
        (machine_catalogue.GPU_MEMORY_USED, "memory_used_bytes"),
        (machine_catalogue.GPU_MEMORY_TOTAL, "memory_total_bytes"),
        (machine_catalogue.GPU_BUSY, "busy_ratio"),
        (machine_catalogue.GPU_TEMPERATURE, "temperature_celsius"),
        (machine_catalogue.GPU_POWER, "power_watts"),
    ):
        level = gauge(metric)
        for gpu in reading.gpus:
            value: float | None = getattr(gpu, name)
            if value is not None:
                level.add_metric([str(gpu.index)], value)
        yield level
