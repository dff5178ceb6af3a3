"""The cache folder: prepared models, fetched sources, and the locks between processes.

    models/NAME-KEY/   prepared; has a manifest with every file's sha256
    sources/KEY/       fetched files, kept so that another preparation needs no network
    work/KEY/          a preparation under way; emptied before each try
    locks/KEY          held by the one process that prepares

A prepared folder appears by one rename, so it is whole or absent.
"""

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from forebay.engine.manifest import FORMAT, ArtefactError, Manifest, load_verified
from forebay.models.catalogue import ModelEntry
from forebay.models.sources import FileSource, parse
from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit

_LOCK_POLL_S: Final = 0.2
_KEY_CHARACTERS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A prepared model: a folder that an engine loads, and its facts."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where one model's files lie in the cache."""

    prepared: Path
    source: Path
    work: Path
    lock: Path


def places(cache: Path, entry: ModelEntry) -> Places:
    """Return where `entry` belongs; another source, digest or format is another place."""
    identity = [str(FORMAT), entry.source, entry.sha256 or "", *_stamp(entry)]
    text = msgspec.json.encode(identity)
    key = hashlib.sha256(text).hexdigest()[:_KEY_CHARACTERS]
    return Places(
        prepared=cache / "models" / f"{entry.name}-{key}",
        source=cache / "sources" / key,
        work=cache / "work" / key,
        lock=cache / "locks" / key,
    )


def _stamp(entry: ModelEntry) -> list[str]:
    """Return what changes when a local source does; remote ones are taken as they were."""
    match parse(entry.source):
        case FileSource(path=path) if path.exists():
            files = [path] if path.is_file() else sorted(path.iterdir())
            return [
                f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files
            ]
        case _:
            return []


def open_artefact(folder: Path) -> Artefact:
    """Verify a prepared model and return it, or raise `PreparationError` with the fix."""
    try:
        return Artefact(path=folder, manifest=load_verified(folder))
    except ArtefactError as error:
        raise PreparationError(str(error)) from error


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise `PreparationError` with both numbers if the disk has not that much room."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise PreparationError(
            f"Fetching this model takes {needed_bytes / 1e6:,.0f} MB and {free / 1e6:,.0f} MB is "
            f"free in {folder}. Free some, or set another cache folder."
        )


@contextmanager
def held(lock: Path, report: Report, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Hold a lock between processes, waiting for it; the kernel frees it if we die."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        turns = 0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                turns += 1
                report(Progress(stage=Stage.WAIT, done=turns, total=0, unit=Unit.STEPS))
                sleep(_LOCK_POLL_S)
        yield
