"""A folder with a model that somebody else made: read within bounds, never out of the folder."""

import os
import shutil
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.engine.manifest import CHAT_TEMPLATE
from forebay.models.space import require_space
from forebay.models.stages import PreparationError

_JSON_BYTES_MAX: Final = 64 << 20  # the largest tokenizers are near 35 MB
_NAME_CHARACTERS_SHOWN: Final = 80
_NAME_BYTES_MAX: Final = 255  # of every file system in use


class SourceFolder:
    """One folder.  Mutable state: the JSON files that were read once."""

    def __init__(self, path: Path, *, ours: bool) -> None:
        """Wrap a folder; `ours` says that nobody but this program writes there."""
        self.path = path
        self._ours = ours
        self._documents: dict[str, dict[str, Any]] = {}

    def holds(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return (self.path / name).is_file()

    def require(self, *names: str, kind: str) -> None:
        """Raise `PreparationError` with all names that are missing; `kind` says what it must be."""
        missing = [name for name in names if not self.holds(name)]
        if missing:
            raise PreparationError(f"The folder lacks {', '.join(missing)}. It must hold {kind}.")

    def file(self, name: str) -> Path:
        """Return a file's true place, or refuse a name or link that leads out of the folder."""
        shown = name[:_NAME_CHARACTERS_SHOWN]
        plain = Path(name).name == name and len(name.encode()) <= _NAME_BYTES_MAX
        if not name or not plain or "\\" in name or "\0" in name:
            raise PreparationError(
                f"{shown!r} leads out of the model's folder, or is no file's name. Only files "
                "inside it are read; fetch the model again, or from another place."
            )
        place = (self.path / name).resolve()
        if place.parent != self.path.resolve():
            raise PreparationError(
                f"{shown!r} is a link that leads out of the model's folder. Copy the files "
                "themselves (`cp -rL FOLDER COPY`) and name the copy."
            )
        if not place.is_file():
            raise PreparationError(
                f"The folder lacks {shown!r}, which other files of the model refer to. "
                "Fetch the model again."
            )
        return place

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON object; empty where there is no such file."""
        if name not in self._documents:
            there = self.holds(name)
            self._documents[name] = read_json(self.file(name), dict[str, Any]) if there else {}
        return self._documents[name]

    def take(self, name: str, target: Path) -> None:
        """Give a file another place; see `give`."""
        give(self.file(name), target, ours=self._ours)

    def take_template(self, target: Path) -> None:
        """Write the chat template, wherever the folder keeps it: in a file, or in a JSON."""
        if self.holds(CHAT_TEMPLATE):
            self.take(CHAT_TEMPLATE, target / CHAT_TEMPLATE)
            return
        template = self.json("tokenizer_config.json").get("chat_template")
        if isinstance(template, list):  # several, each with a name
            named = [entry for entry in template if isinstance(entry, dict)]
            template = next((e.get("template") for e in named if e.get("name") == "default"), None)
        if isinstance(template, str):
            (target / CHAT_TEMPLATE).write_text(template, encoding="utf-8")


def give(place: Path, target: Path, *, ours: bool) -> None:
    """Give a file another place: linked where it is ours already, else copied.

    A link to a person's own file would change under a running engine when they change it.
    """
    if ours:
        try:
            os.link(place, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(place, target)
    else:
        require_space(target.parent, place.stat().st_size)
        shutil.copyfile(place, target)


def read_json(path: Path, kind: Any) -> Any:  # noqa: ANN401 - `kind` is any type msgspec decodes
    """Return a JSON file's content as `kind`, or raise `PreparationError`."""
    if path.stat().st_size > _JSON_BYTES_MAX:
        raise PreparationError(f"{path.name} is larger than any known. Fetch the model again.")
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PreparationError(
            f"{path.name} is not the JSON that belongs there ({error}). Fetch the model again."
        ) from error
