"""Where values come from: a YAML file, the environment, `--set`, and flags of their own.

A source is read into assignments, each with the place that a person would look at to change
it.  What is wrong with a source becomes a problem; all problems are told at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forebay.settings.aliases import ALIASES, MEANINGS

if TYPE_CHECKING:
    import yaml

PREFIX: Final = "FOREBAY_"
FILE_VARIABLE: Final = "FOREBAY_CONFIG"
KEY_VARIABLE: Final = "FOREBAY_KEY"
"""A caller's API key (docs/accounts.md), and no setting of a server started in the same shell."""
FILE_BYTES_MAX: Final = 1_048_576
DEPTH_MAX: Final = 4
"""Levels of a file that are read as sections: models, one of them, its options, one of those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything that may set something, weakest first."""

    file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    assignments: tuple[str, ...] = ()
    """Texts of `--set`: `key.path=value`."""
    flags: Mapping[str, tuple[str, object]] = field(default_factory=dict)
    """Key -> (the flag as a person typed it, its value)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A key is given a value somewhere."""

    key: str
    value: object
    set_by: str
    """Where: `forebay.yaml:3`, a variable, a flag."""
    text: bool = False
    """The value is a text that stands for a value of the setting's type."""

    def spell(self, key: str) -> str:
        """Write another key the way this source writes keys."""
        return variable(key) if self.set_by.startswith(PREFIX) else key


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong, and what to do; one or two sentences."""

    set_by: str
    text: str

    def __str__(self) -> str:
        return f"{self.set_by}: {self.text}"


def variable(key: str) -> str:
    """Return the environment variable of a key."""
    return PREFIX + key.replace(".", "__").upper()


def read(sources: Sources) -> tuple[list[Assignment], list[Problem]]:
    """Read every source, weakest first."""
    found: list[Assignment] = []
    problems: list[Problem] = []
    for part in (
        *_from_file(sources),
        *_from_environ(sources.environ),
        *_from_assignments(sources.assignments),
    ):
        if isinstance(part, Assignment):
            found.append(part)
        else:
            problems.append(part)
    for key, (flag, value) in sources.flags.items():
        found.append(Assignment(key=key, value=value, set_by=flag, text=isinstance(value, str)))
    return found, problems


def _from_environ(environ: Mapping[str, str]) -> Iterator[Assignment | Problem]:
    said: dict[str, tuple[str, str]] = {}
    for alias, keys in ALIASES.items():
        written = environ.get(alias, "").strip()
        value = MEANINGS.get(alias, {}).get(written.lower(), written)
        for key in keys if value else ():
            other, before = said.setdefault(key, (alias, value))
            if before != value:
                text = f"{other} says otherwise, and both mean {key}. Set one of them."
                yield Problem(set_by=alias, text=text)
            yield Assignment(key=key, value=value, set_by=alias, text=True)
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and name not in {FILE_VARIABLE, KEY_VARIABLE}:
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            yield Assignment(key=key, value=value, set_by=name, text=True)


def _from_assignments(texts: tuple[str, ...]) -> Iterator[Assignment | Problem]:
    for text in texts:
        key, equals, value = text.partition("=")
        if equals and key:
            set_by = f"--set {key.strip()}"
            yield Assignment(key=key.strip(), value=value.strip(), set_by=set_by, text=True)
        else:
            yield Problem(set_by=f"--set {text[:80]}", text="Write it as --set key.path=value.")


def _from_file(sources: Sources) -> Iterator[Assignment | Problem]:
    named = sources.environ.get(FILE_VARIABLE)
    path = sources.file or (Path(named) if named else None)
    if path is None:
        return
    try:
        text = _text_of(path)
    except OSError as error:
        yield Problem(set_by=str(path), text=f"The file cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        yield Problem(set_by=str(path), text="The file is not UTF-8 text. Save it as UTF-8.")
    else:
        yield from _from_yaml(str(path), text)


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise OSError(0, f"it is larger than {FILE_BYTES_MAX} bytes")
    return data.decode()


def _from_yaml(name: str, text: str) -> Iterator[Assignment | Problem]:
    import yaml  # noqa: PLC0415 - 20 ms that only a start with a file pays

    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            yield Problem(set_by=name, text="The file must hold keys and values: `model: …`.")
            return
        yield from _Walk(name, loader).mapping(root, "", level=1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        yield Problem(set_by=f"{name}{line}", text=f"This is not YAML: {error.problem}.")
    except yaml.YAMLError:
        yield Problem(set_by=name, text="This is not YAML: it holds characters that YAML forbids.")
    except RecursionError:
        yield Problem(set_by=name, text="The file is nested too deeply; two levels are enough.")


class _Walk:
    """Flattens a YAML document into assignments, line by line."""

    def __init__(self, name: str, loader: "yaml.SafeLoader") -> None:
        self._name = name
        self._loader = loader

    def mapping(
        self, node: "yaml.MappingNode", prefix: str, *, level: int
    ) -> Iterator[Assignment | Problem]:
        """Yield what stands under this node; `prefix` leads to it, whose names may hold dots."""
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = f"{prefix}{key_node.value if isinstance(key_node.value, str) else '?'}"
            set_by = f"{self._name}:{key_node.start_mark.line + 1}"
            if key in seen:
                yield Problem(set_by=set_by, text=f"{key} stands twice. Remove one of the two.")
                continue
            seen.add(key)
            yield from self._entry(key, value_node, set_by, level=level)

    def _entry(
        self, key: str, node: "yaml.Node", set_by: str, *, level: int
    ) -> Iterator[Assignment | Problem]:
        import yaml  # noqa: PLC0415 - as above

        if isinstance(node, yaml.MappingNode) and level <= DEPTH_MAX:
            yield from self.mapping(node, f"{key}.", level=level + 1)
        else:
            value = self._loader.construct_object(node, deep=True)
            yield Assignment(key=key, value=value, set_by=set_by)
