"""Where the objectives are read: the package's own `slo.yaml`, or a file of the operator's."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import yaml

from forebay.core.knob import knob
from forebay.policy.slo import Spec
from forebay.policy.slo_spec import SpecError, spec_of

FILE_BYTES_MAX: Final = 65_536
BUILT_IN: Final = resources.files("forebay") / "monitoring" / "slo.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SloConfig:
    """What this server is held to."""

    file: str = knob(
        "", "File of the objectives (YAML); empty: those of the package (docs/slo.md)."
    )


def read_spec(config: SloConfig) -> Spec:
    """Return the objectives in force; raises SpecError with the key at fault and the fix."""
    if not config.file:
        return built_in()
    try:
        with Path(config.file).expanduser().open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        text = data.decode()
    except OSError as error:
        raise SpecError("the file", f"It cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SpecError("the file", "It is not UTF-8 text. Save it as UTF-8.") from error
    except (RuntimeError, ValueError) as error:  # ~ of somebody who is not, NUL, a surrogate
        raise SpecError("the file", "No file can have this name.") from error
    if len(data) > FILE_BYTES_MAX:
        raise SpecError("the file", f"It is longer than {FILE_BYTES_MAX} bytes.")
    return spec_of(_document(text))


@functools.cache
def built_in() -> Spec:
    """Return the objectives of the package, which never change."""
    return spec_of(_document(BUILT_IN.read_text(encoding="utf-8")))


def misfits(config: SloConfig) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a file of the operator's, and by which setting it is named."""
    try:
        read_spec(config)
    except SpecError as error:
        yield "slo.file", f"slo.file: {error}"


def _document(text: str) -> object:
    try:
        return _Once(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"line {line}", f"This is not YAML: {error.problem}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError("the file", "This is not YAML that can be read.") from error


class _Once(yaml.SafeLoader):
    """Takes no key twice: YAML would keep the second objective, and say nothing of the first."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:  # noqa: FBT001, FBT002 - the library's signature
        """Return the value, or raise over one that is not of its type: a 99th of a month."""
        try:
            return super().construct_object(node, deep=deep)
        except (KeyError, TypeError, ValueError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, "a value cannot be read", node.start_mark
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002 - the library's signature
        """Return the mapping, or raise over a key that stands twice."""
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name} stands twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)
