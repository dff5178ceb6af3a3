"""What the server runs on: its control group's limits, its disks, its certificate.

Every reading asks the kernel, and a file system of a server that is away may keep it waiting:
it is called from a thread (`sampled.py`), never from the event loop.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from forebay.engine import cgroup
from forebay.telemetry.readings import DiskReading, MachineReading

_PEM_BYTES_MAX: Final = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where to look."""

    root: Path = Path("/")
    """Where /proc and /sys are found."""
    volumes: Mapping[str, Path] = field(default_factory=dict)
    """Folders by what is kept there."""
    certificate: Path | None = None


class Machine:
    """Reads what the server runs on."""

    def __init__(self, places: Places) -> None:
        """Read nothing yet."""
        self._places = places
        # The whole mutable state: when the certificate's file was written, and when it ends.
        self._certificate: tuple[int, float | None] = (-1, None)

    def read(self) -> MachineReading:
        """Return what is so now; what cannot be read is None."""
        root = self._places.root
        used, limit = cgroup.memory(root)
        return MachineReading(
            memory_used_bytes=used,
            memory_limit_bytes=limit,
            cpu_limit_cores=cgroup.cores(root),
            cpu_throttled_s=_throttled_s(root),
            disks=self._disks(),
            certificate_expires_s=self._expiry(),
        )

    def _disks(self) -> dict[str, DiskReading]:
        found = {}
        for volume, folder in self._places.volumes.items():
            reading = _disk(folder)
            if reading is not None:
                found[volume] = reading
        return found

    def _expiry(self) -> float | None:
        """Return when the certificate ends; its file is read again only when it has changed."""
        path = self._places.certificate
        if path is None:
            return None
        try:
            written_ns = path.stat().st_mtime_ns
            if written_ns != self._certificate[0]:
                with path.open("rb") as file:
                    self._certificate = (written_ns, _end(file.read(_PEM_BYTES_MAX)))
        except OSError:
            return None
        return self._certificate[1]


def _end(pem: bytes) -> float | None:
    from cryptography import x509  # noqa: PLC0415 - a server without TLS has no use for it

    try:
        return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc.timestamp()
    except ValueError:
        return None


def _disk(folder: Path) -> DiskReading | None:
    """Return how full the file system is on which a folder lies, or will once it is made."""
    for place in (folder, *folder.absolute().parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return DiskReading(
            free_bytes=found.f_bavail * found.f_frsize, size_bytes=found.f_blocks * found.f_frsize
        )
    return None


def _throttled_s(root: Path) -> float | None:
    for folder in cgroup.groups(root, "cpu"):
        known = cgroup.figures(folder / "cpu.stat")
        if "throttled_usec" in known:
            return known["throttled_usec"] / 1e6
        if "throttled_time" in known:
            return known["throttled_time"] / 1e9
    return None
