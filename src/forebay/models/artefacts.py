"""The cache folder: prepared models, fetched sources, and the locks between processes.

    models/NAME-FORM-KEY/  prepared; has a manifest with every file's sha256
    sources/KEY/           fetched files, kept so that another preparation needs no network
    work/KEY/              a preparation under way; emptied before each try
    locks/KEY              held by the one process that prepares

A prepared folder appears by one rename, so it is whole or absent.
"""

import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from forebay.engine.manifest import FORMAT, ArtefactError, Form, Manifest, load_verified
from forebay.models.catalogue import ModelEntry
from forebay.models.sources import FileSource, Source, parse
from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit

_LOCK_POLL_S: Final = 0.2
_KEY_CHARACTERS: Final = 16
_SOURCES_FORMAT: Final = "1"
"""Raised when fetched files of before can no longer be used."""


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


def places(cache: Path, entry: ModelEntry, form: Form) -> Places:
    """Return where `entry` belongs; another source, digest, format or form is another place.

    What was fetched is kept once, for every form and format.
    """
    origin = [entry.source, entry.sha256 or "", *stamp(parse(entry.source))]
    made = [form, entry.precision] if entry.precision else [form]
    key, source = _key(str(FORMAT), *made, *origin), _key(_SOURCES_FORMAT, *origin)
    return Places(
        prepared=cache / "models" / f"{entry.name}-{form}-{key}",
        source=cache / "sources" / source,
        work=cache / "work" / key,
        lock=cache / "locks" / source,
    )


def _key(*parts: str) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:_KEY_CHARACTERS]


def stamp(source: Source) -> list[str]:
    """Return what changes when a local source does; remote ones are taken as they were."""
    match source:
        case FileSource(path=path) if path.exists():
            files = [path] if path.is_file() else sorted(path.iterdir())
            found = [(file.name, file.stat()) for file in files if file.exists()]
            return [f"{name} {facts.st_size} {facts.st_mtime_ns}" for name, facts in found]
        case _:
            return []


def open_artefact(folder: Path) -> Artefact:
    """Verify a prepared model and return it, or raise `PreparationError` with the fix."""
    try:
        return Artefact(path=folder, manifest=load_verified(folder))
    except ArtefactError as error:
        raise PreparationError(str(error)) from error


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
