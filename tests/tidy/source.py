"""The repository as the tidy rules see it: parsed files with their names."""

import ast
import functools
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
STDLIB: Final = sys.stdlib_module_names | {"__future__"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One Python file: its dotted name, where it stands, its text and its tree."""

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The folder (or lone module) right under forebay/, or '' for forebay/__init__.py."""
        return self.name.partition(".")[2].partition(".")[0]

    @property
    def is_init(self) -> bool:
        """Whether it is a package's `__init__.py`."""
        return self.path.endswith("__init__.py")

    def at(self, node: ast.stmt | ast.expr | ast.ExceptHandler | ast.arg) -> str:
        """Say where a piece of it stands."""
        return f"{self.path}:{node.lineno}"


def example(text: str, name: str = "forebay.core.example") -> Module:
    """Make a module out of a string: a rule's own test feeds it something bad."""
    path = f"src/{name.replace('.', '/')}.py"
    return Module(name=name, path=path, text=text, tree=ast.parse(text))


@functools.cache
def source() -> tuple[Module, ...]:
    """Every module of the package."""
    return tuple(_read(path, ROOT / "src") for path in _files("src"))


@functools.cache
def suites() -> tuple[Module, ...]:
    """Every module of the tests, scripts and benchmarks."""
    found = (path for folder in ("tests", "scripts", "benchmarks") for path in _files(folder))
    return tuple(_read(path, ROOT) for path in found)


def functions(module: Module) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            yield node


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every import below `tree`, with the dotted name of each thing it may be importing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def comments(module: Module) -> Iterator[tuple[int, str]]:
    """Every comment, with its line."""
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def read(path: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def report(offences: Iterable[str]) -> None:
    """Fail with one line per offence."""
    found = sorted(set(offences))
    assert not found, "\n" + "\n".join(found)


def _files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _read(path: Path, root: Path) -> Module:
    parts = path.relative_to(root).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    text = path.read_text(encoding="utf-8")
    where = str(path.relative_to(ROOT))
    return Module(name=name, path=where, text=text, tree=ast.parse(text))
