"""Rule 5: every knob says what it does, in which unit, within which bounds, on a page."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.tidy.source import Module, example, read, report, source
from tests.tidy.test_words import words_of

UNITS: Final = frozenset(
    {"bytes", "max", "min", "ms", "port", "ratio", "s", "threads", "tokens", "workers"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A knob as its class declares it."""

    field: str
    where: str
    default: ast.expr
    help: str
    bounds: frozenset[str]


def declared(module: Module) -> Iterator[Declared]:
    """Every field of a class that is made by `knob(...)`."""
    for node in ast.walk(module.tree):
        match node:
            case ast.AnnAssign(
                target=ast.Name(id=name), value=ast.Call(func=ast.Name(id="knob")) as call
            ):
                named = {word.arg: word.value for word in call.keywords if word.arg}
                given = dict(zip(("default", "help"), call.args, strict=False)) | named
                yield Declared(
                    field=name,
                    where=module.at(node),
                    default=given["default"],
                    help=_text(given["help"]),
                    bounds=frozenset(named) & {"minimum", "maximum"},
                )


def undescribed(module: Module) -> Iterator[str]:
    """Knobs without a sentence, a unit in the name, or bounds."""
    for knob in declared(module):
        if not (knob.help[:1].isupper() and knob.help.endswith(".")):
            yield f"{knob.where}: {knob.field}: its help is a sentence"
        if _is_number(knob.default):
            if len(knob.bounds) < 2:
                yield f"{knob.where}: {knob.field}: a number has a minimum and a maximum"
            if not UNITS & set(words_of(knob.field)):
                yield f"{knob.where}: {knob.field}: its name ends in a unit: {sorted(UNITS)}"


def undocumented(module: Module, page: str) -> Iterator[str]:
    """Knobs that do not stand on the page of configuration."""
    for knob in declared(module):
        if f".{knob.field}`" not in page:
            yield f"{knob.where}: {knob.field} is not in docs/configuration.md; run `make docs`"


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand)
    numeric = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return numeric and not isinstance(getattr(node, "value", None), bool)


def test_every_knob_explains_itself() -> None:
    assert any(list(declared(module)) for module in source())
    report(offence for module in source() for offence in undescribed(module))


def test_every_knob_stands_on_the_page_of_configuration() -> None:
    page = read("docs/configuration.md")
    report(offence for module in source() for offence in undocumented(module, page))


@pytest.mark.parametrize(
    "knob",
    [
        "wait_s: float = knob(1.0, 'Waits.', minimum=0.0)",
        "wait: float = knob(1.0, 'Waits.', minimum=0.0, maximum=2.0)",
        "name: str = knob('x', 'a name')",
        "name: str = knob(default='x', help='')",
    ],
)
def test_the_rule_sees_a_knob_that_does_not_explain_itself(knob: str) -> None:
    assert list(undescribed(example(f"class A:\n    {knob}")))


def test_the_rule_accepts_a_knob_that_does() -> None:
    good = "class A:\n    wait_s: float = knob(1.0, 'Waits.', minimum=0.0, maximum=2.0)"
    assert not list(undescribed(example(good)))
    assert not list(undocumented(example(good), "| `door.wait_s` |"))
    assert list(undocumented(example(good), "| `door.waits` |"))
