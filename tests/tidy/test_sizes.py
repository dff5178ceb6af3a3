"""Rule 2: files and functions stay small; no module is empty, dead or shadowed.

Columns and parameter lists are ruff's: see `line-length` and `max-args` in pyproject.toml.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

from tests.tidy.source import (
    Function,
    Module,
    example,
    functions,
    imports,
    read,
    report,
    source,
    suites,
)

FILE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 60


def too_long(module: Module) -> Iterator[str]:
    """Files and functions over their limit."""
    lines = len(module.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{module.path}: {lines} lines; a module has at most {FILE_LINES_MAX}"
    for function in functions(module):
        length = length_of(function)
        if length > FUNCTION_LINES_MAX:
            yield f"{module.at(function)}: {function.name} has {length} lines; at most 60"


def length_of(function: Function) -> int:
    """Lines of a function from its `def` to its end, docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def empty(module: Module) -> Iterator[str]:
    """Modules that say nothing; an empty `__init__.py` is fine."""
    body = [node for node in module.tree.body if not _is_text(node)]
    if not body and not module.is_init:
        yield f"{module.path}: an empty module"


def shadowed(paths: Iterable[str]) -> Iterator[str]:
    """Modules that stand beside a package of the same name."""
    found = set(paths)
    for path in found:
        if path.removesuffix(".py") + "/__init__.py" in found:
            yield f"{path}: stands beside a package of the same name"


def unused(modules: Iterable[Module], named: str) -> Iterator[str]:
    """Modules that no import reaches and no text in `named` (entry points, -m) mentions."""
    modules = tuple(modules)
    reached = {name for module in modules for _, name in imports(module.tree)}
    reached |= {name.rpartition(".")[0] for name in reached}
    for module in modules:
        mentioned = re.search(rf"\b{re.escape(module.name)}\b", named)
        if not (module.is_init or module.name in reached or mentioned):
            yield f"{module.path}: nothing imports it"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _strings(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_files_and_functions_are_short() -> None:
    found = (*source(), *suites())
    report(offence for module in found for offence in too_long(module))


def test_no_module_is_empty() -> None:
    found = (*source(), *suites())
    report(offence for module in found for offence in empty(module))


def test_no_module_stands_beside_a_package_of_its_name() -> None:
    report(shadowed(module.path for module in source()))


def test_every_module_is_reached_by_an_import_or_an_entry_point() -> None:
    named = read("pyproject.toml") + "\n".join(_strings(source()))
    # Alembic runs whatever lies in the folder of migrations.
    named += "".join(f" {each.name}" for each in source() if ".accounts.migrations." in each.name)
    callers = [module for module in suites() if not module.path.startswith("tests/tidy")]
    found = unused([*source(), *callers], named)
    report(offence for offence in found if offence.startswith("src/"))


def test_the_rule_sees_what_is_too_long() -> None:
    assert list(too_long(example("x = 1\n" * 401)))
    assert list(too_long(example("def f():\n" + "    x = 1\n" * 60)))
    assert not list(too_long(example("def f():\n" + "    x = 1\n" * 59)))


def test_the_rule_sees_an_empty_a_shadowed_and_an_unused_module() -> None:
    assert list(empty(example('"""Words."""')))
    assert list(shadowed(["a/b.py", "a/b/__init__.py"]))
    alone = example("x = 1", "forebay.core.alone")
    assert list(unused([alone], ""))
    assert not list(unused([alone], '"forebay.core.alone:KIND"'))
    assert not list(
        unused([alone, example("from forebay.core.alone import x")], "forebay.core.example")
    )
