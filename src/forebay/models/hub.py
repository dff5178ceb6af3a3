"""Model files from the Hugging Face hub, or from a server that speaks its API."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from forebay.engine.manifest import Form, file_sha256
from forebay.models import forms
from forebay.models.sources import HubSource
from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit

_TEXT: Final = (
    r"|(?:tokenizer|config|generation_config|tokenizer_config)\.json|chat_template\.jinja"
)
_FILES: Final[Mapping[Form, re.Pattern[str]]] = {
    Form.OPENVINO: re.compile(r"openvino_(?:model|tokenizer|detokenizer)\.(?:xml|bin)" + _TEXT),
    Form.SAFETENSORS: re.compile(
        r"model(?:-\d{1,5}-of-\d{1,5})?\.safetensors|model\.safetensors\.index\.json" + _TEXT
    ),
    Form.ONNX: re.compile(
        r"genai_config\.json|[A-Za-z0-9_-]{1,64}\.onnx(?:[._][A-Za-z0-9_-]{1,16})?" + _TEXT
    ),
}
"""What is fetched of a repository, at its top: weights in one form, and text rules."""
_FILES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file to be fetched; `sha256` is None where the hub keeps none (small text files)."""

    name: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubListing:
    """What is to be fetched of a repository, at the commit that was found."""

    repository: str
    commit: str
    form: Form
    files: tuple[HubFile, ...]
    """For a GGUF one file."""

    @property
    def size_bytes(self) -> int:
        """Bytes to be fetched."""
        return sum(file.size_bytes for file in self.files)


def list_files(source: HubSource, *, endpoint: str | None, form: Form) -> HubListing:
    """Ask the hub which files the model consists of from which `form` is made.

    Raises `PreparationError`.
    """
    commit, found = _ask(source, endpoint)
    held, files = _choose(source, found, form)
    return HubListing(repository=source.repository, commit=commit, form=held, files=files)


def list_named(source: HubSource, *, endpoint: str | None, names: Sequence[str]) -> HubListing:
    """Ask the hub for those of the named files that there are; raise `PreparationError`."""
    commit, found = _ask(source, endpoint)
    files = tuple(file for file in found if file.name in names)
    form = Form.SAFETENSORS
    return HubListing(repository=source.repository, commit=commit, form=form, files=files)


def _ask(source: HubSource, endpoint: str | None) -> tuple[str, list[HubFile]]:
    """Return the commit that a repository is at, and the files in it."""
    import huggingface_hub  # noqa: PLC0415 - heavy
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # noqa: PLC0415 - heavy

    api = huggingface_hub.HfApi(endpoint=endpoint, library_name="forebay")
    try:
        info = api.model_info(source.repository, revision=source.revision, files_metadata=True)
    except (HTTPError, OSError, ValueError) as error:
        raise _unreachable(source, error) from error
    if info.sha is None:
        raise _unreachable(source, ValueError("it names no commit"))
    return info.sha, [
        HubFile(
            name=entry.rfilename,
            size_bytes=entry.size or 0,
            sha256=entry.lfs.sha256 if entry.lfs else None,
        )
        for entry in (info.siblings or [])[:_FILES_MAX]
        if _is_inside(entry.rfilename)
    ]


def _is_inside(name: str) -> bool:
    """Tell whether a name leads to a place in the repository, as each should."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name


def fetch(listing: HubListing, *, endpoint: str | None, folder: Path, report: Report) -> None:
    """Download the files into `folder`, resuming what was begun, and check their digests."""
    import huggingface_hub  # noqa: PLC0415 - heavy
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # noqa: PLC0415 - heavy

    source = HubSource(repository=listing.repository, revision=listing.commit)
    before = 0
    for file in listing.files:
        try:
            huggingface_hub.hf_hub_download(
                listing.repository,
                file.name,
                revision=listing.commit,
                local_dir=folder,
                endpoint=endpoint,
                library_name="forebay",
                tqdm_class=_bar(report, before=before, total=listing.size_bytes),
            )
        except (HTTPError, OSError, ValueError) as error:
            raise _unreachable(source, error) from error
        _check(folder / file.name, file)
        before += file.size_bytes


def _check(path: Path, file: HubFile) -> None:
    size = path.stat().st_size
    if size != file.size_bytes or (file.sha256 and file_sha256(path) != file.sha256):
        path.unlink()
        raise PreparationError(
            f"{file.name[:80]} arrived damaged: {size} of {file.size_bytes} bytes, or another "
            "sha256 than the hub says. Run the command again to fetch it anew."
        )


def _choose(
    source: HubSource, found: list[HubFile], wanted: Form
) -> tuple[Form, tuple[HubFile, ...]]:
    files = {file.name: file for file in found}
    if source.path is not None:
        if source.path not in files:
            ggufs = [name for name in files if name.endswith(".gguf")]
            raise PreparationError(
                f"{source.repository} has no file {source.path[:80]!r}. {forms.offer(ggufs)}"
            )
        form = forms.choose(source.repository, {source.path}, wanted)
        return form, (files[source.path],)
    form = forms.choose(source.repository, set(files), wanted)
    if form is Form.GGUF:
        return form, (files[forms.one_gguf(source.repository, files)],)
    return form, tuple(file for file in found if _FILES[form].fullmatch(file.name))


def _unreachable(source: HubSource, error: Exception) -> PreparationError:
    from huggingface_hub import errors  # noqa: PLC0415 - heavy

    where = f"{source.repository} at {source.revision}" if source.revision else source.repository
    match error:
        case errors.GatedRepoError():
            why = "access to it must be granted first. Ask on its page, then set HF_TOKEN"
        case errors.RepositoryNotFoundError():
            why = "the hub knows no such repository, or it is private. Check it, or set HF_TOKEN"
        case errors.RevisionNotFoundError():
            why = "the hub knows no such revision. Name a branch, a tag or a commit"
        case _:
            why = f"{type(error).__name__}. Check the network, and the hub's address if one is set"
    return PreparationError(f"{where} could not be fetched: {why}.")


def _bar(report: Report, *, before: int, total: int) -> Any:  # noqa: ANN401 - tqdm is untyped
    """Return a class that the hub's downloader takes for a progress bar."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # noqa: PLC0415 - the hub brings it

    class Bar(tqdm):  # type: ignore[misc]
        """Draws nothing; passes on how far one file has come."""

        def __init__(self, *arguments: object, **options: object) -> None:
            options.pop("name", None)
            options.update(disable=True)
            super().__init__(*arguments, **options)
            self._done = int(str(options.get("initial") or 0))
            self._tell()

        def update(self, n: float | None = 1) -> bool | None:
            """Note `n` more bytes."""
            self._done += int(n or 0)
            self._tell()
            return None

        def _tell(self) -> None:
            done = min(before + self._done, total)
            report(Progress(stage=Stage.FETCH, done=done, total=total, unit=Unit.BYTES))

    return Bar


def folder_digest(listing: HubListing, folder: Path) -> str:
    """Return one sha256 over the fetched files' names and digests."""
    whole = hashlib.sha256()
    for file in sorted(listing.files, key=lambda file: file.name):
        whole.update(f"{file_sha256(folder / file.name)}  {file.name}\n".encode())
    return whole.hexdigest()
