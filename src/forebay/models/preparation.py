"""From a source to what an engine loads: once, whole or not at all."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, assert_never

import msgspec

from forebay import __version__
from forebay.engine.manifest import FORMAT, Form, Manifest, file_sha256, write_manifest
from forebay.models import checkpoint_folder, ir_folder, onnx_folder, precisions
from forebay.models.artefacts import Artefact, held, open_artefact, places
from forebay.models.catalogue import ModelEntry
from forebay.models.conversion import Failed, Line, Moved
from forebay.models.facts import Facts
from forebay.models.fetching import Fetched, Fetching
from forebay.models.source_folder import SourceFolder
from forebay.models.sources import parse
from forebay.models.stages import PreparationError, Progress, Stage, Unit

_STDERR_CHARACTERS_MAX: Final = 500
_TEXT_SUFFIXES: Final = frozenset({".json", ".jinja", ".xml"})


def prepare(
    entry: ModelEntry,
    *,
    form: Form,
    cache: Path,
    progress: Callable[[Progress], None],
    hub_endpoint: str | None = None,
) -> Artefact:
    """Return the model prepared in one form, making it first if need be.

    Idempotent, and safe beside other processes: one prepares, the rest wait.  A prepared model
    is verified and needs no network.  `hub_endpoint` replaces the Hugging Face hub's address.
    Raises `PreparationError`.
    """
    precisions.require(form, entry.precision)
    try:
        where = places(cache, entry, form)
        if where.prepared.exists():
            return open_artefact(where.prepared)
        with held(where.lock, progress):
            if not where.prepared.exists():
                fetching = Fetching(
                    where=where, form=form, report=progress, hub_endpoint=hub_endpoint
                )
                _Preparation(entry, fetching).run()
            return open_artefact(where.prepared)
    except OSError as error:
        raise PreparationError(
            f"The cache folder cannot be used ({error.strerror or type(error).__name__}: "
            f"{error.filename}). Give it room and rights, or set another."
        ) from error


class _Preparation:
    """One try; the lock is held."""

    def __init__(self, entry: ModelEntry, fetching: Fetching) -> None:
        self._entry = entry
        self._fetching = fetching
        self._where = fetching.where
        self._form = fetching.form
        self._report = fetching.report

    def run(self) -> None:
        where = self._where
        shutil.rmtree(where.work, ignore_errors=True)
        where.work.mkdir(parents=True)
        try:
            fetched = self._fetching.fetch(parse(self._entry.source))
            self._require_digest(fetched)
            if fetched.form is self._form and self._entry.precision:
                raise PreparationError(
                    f"precision: the source is a finished {self._form}, which is taken as it is. "
                    "Leave it out, or name the model that this was made from."
                )
            facts = self._taken(fetched) if fetched.form is self._form else None
            self._finish(facts or self._convert(fetched), fetched.sha256)
        finally:
            shutil.rmtree(where.work, ignore_errors=True)

    def _require_digest(self, fetched: Fetched) -> None:
        expected = self._entry.sha256
        if expected is None or fetched.sha256 == expected:
            return
        shutil.rmtree(self._where.source, ignore_errors=True)
        raise PreparationError(
            f"{self._entry.name} is not what it was: sha256 {fetched.sha256}, expected {expected}. "
            "The download was removed; try again, and distrust the mirror if it stays so."
        )

    def _taken(self, fetched: Fetched) -> Facts | None:
        """Take a folder that is what it shall be; None if a process of its own has to."""
        folder, out = SourceFolder(fetched.path, ours=fetched.ours), self._where.work / "out"
        match self._form:
            case Form.OPENVINO:
                out.mkdir()
                return ir_folder.take(folder, out, self._report)
            case Form.SAFETENSORS:
                out.mkdir()
                return checkpoint_folder.take(folder, out, self._report)
            case Form.ONNX:
                out.mkdir()
                return onnx_folder.take(folder, out, self._report)
            case Form.GGUF:
                return None
            case _:
                assert_never(self._form)

    def _convert(self, fetched: Fetched) -> Facts:
        """Run the conversion in its own process and pass its progress on."""
        log = self._where.work / "conversion.log"
        last: Line | None = None
        owner = "ours" if fetched.ours else "theirs"
        precision = self._entry.precision
        places = (str(fetched.path), str(self._where.work))
        arguments = [fetched.form, self._form, precision, *places, owner]
        with (
            log.open("w+", encoding="utf-8", errors="replace") as errors,
            subprocess.Popen(  # noqa: S603 - our own module, paths of our own cache
                [sys.executable, "-m", "forebay.models.conversion", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
            ) as child,
        ):
            assert child.stdout is not None, "it was asked for above"
            try:
                for raw in child.stdout:
                    last = msgspec.json.decode(raw, type=Line)
                    if isinstance(last, Moved):
                        self._report(last.progress)
            except BaseException:
                child.kill()
                raise
        if isinstance(last, Facts):
            return last
        if isinstance(last, Failed):
            raise PreparationError(last.message)
        tail = log.read_text(encoding="utf-8", errors="replace").strip()[-_STDERR_CHARACTERS_MAX:]
        raise PreparationError(
            f"The conversion ended with status {child.returncode} (-9: out of memory), saying: "
            f"{tail or 'nothing'}. Free memory or report this with the model's source."
        )

    def _finish(self, facts: Facts, source_sha256: str) -> None:
        out = self._where.work / "out"
        names = sorted(path.name for path in out.iterdir())
        files = {}
        for done, name in enumerate(names, 1):
            files[name] = file_sha256(out / name)
            total = len(names)
            self._report(Progress(stage=Stage.FINISH, done=done, total=total, unit=Unit.STEPS))
        manifest = Manifest(
            format=FORMAT,
            name=self._entry.name,
            source=self._entry.source,
            source_sha256=source_sha256,
            form=self._form,
            prepared_by=f"forebay {__version__}",
            weights_bytes=_weights_bytes(out),
            files=files,
            **msgspec.structs.asdict(facts),
        )
        write_manifest(out, manifest)
        self._where.prepared.parent.mkdir(parents=True, exist_ok=True)
        out.rename(self._where.prepared)


def _weights_bytes(folder: Path) -> int:
    """Everything but text: ONNX names the file beside model.onnx as it likes."""
    return sum(f.stat().st_size for f in folder.iterdir() if f.suffix not in _TEXT_SUFFIXES)
