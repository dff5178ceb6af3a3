"""Rule 3: what decides has no clock, no dice, no sockets and no loop; time is an argument."""

import ast
from collections.abc import Iterator
from typing import Final

import pytest

from tests.tidy.source import Module, example, imports, report, source

# Where each of them is allowed all the same.
IMPURE: Final = {
    "asyncio": (),
    "datetime": (),
    "logging": (),
    "os": (),
    "pathlib": (),
    "random": (),
    "secrets": (),
    "socket": (),
    "subprocess": (),
    "threading": (),
    "time": ("forebay.core.clock",),
    "uuid": (),
}
COLLECTIONS: Final = (ast.List, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)
PURE: Final = frozenset({"core", "policy"})


def impurities(module: Module) -> Iterator[str]:
    """Imports and calls through which the outside world gets into a decision."""
    for statement, name in imports(module.tree):
        top = name.split(".")[0]
        if module.name not in IMPURE.get(top, (module.name,)):
            yield f"{module.at(statement)}: {module.package} is pure and may not use {top}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
            yield f"{module.at(node)}: {module.package} is pure and awaits nothing"
        elif isinstance(node, ast.Name) and node.id in {"open", "input", "print"}:
            yield f"{module.at(node)}: {module.package} is pure and does no I/O"


def mutable_globals(module: Module) -> Iterator[str]:
    """Module-level names that change: `global` statements and lower-case collections."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Global):
            yield f"{module.at(node)}: no module-level mutable state (global)"
    for statement in module.tree.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        assigned = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        constant = all(_is_constant(ast.unparse(target)) for target in assigned)
        if isinstance(statement.value, COLLECTIONS) and not constant:
            yield f"{module.at(statement)}: a collection at module level is upper case: constant"


def _is_constant(name: str) -> bool:
    return name.isupper() or name == "__all__"


def test_core_and_policy_are_pure() -> None:
    pure = [module for module in source() if module.package in PURE]
    assert pure
    report(offence for module in pure for offence in impurities(module))


def test_nothing_mutable_lives_at_module_level() -> None:
    report(offence for module in source() for offence in mutable_globals(module))


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from os import environ",
        "def f():\n    import random",
        "async def f(): ...",
        "x = open('file')",
    ],
)
def test_the_rule_sees_the_outside_world(text: str) -> None:
    assert list(impurities(example(text)))


def test_the_clock_may_read_the_time() -> None:
    assert not list(impurities(example("import time", "forebay.core.clock")))


@pytest.mark.parametrize("text", ["seen = []", "def f():\n    global x\n    x = 1", "a: dict = {}"])
def test_the_rule_sees_state_at_module_level(text: str) -> None:
    assert list(mutable_globals(example(text)))
