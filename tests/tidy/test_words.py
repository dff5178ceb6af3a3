"""Rule 4, names: the vocabulary of docs/glossary.md, and no module named for nothing."""

import ast
import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.tidy.source import Function, Module, example, report, source

# Word -> what we say.  Words with a second, honest meaning (run, output, node, status, task, token,
# page, encode, target, account, shutdown) are left to the reader's judgement.
BANNED: Final = {
    "artifact": "artefact",
    "asset": "artefact",
    "backend": "engine",
    "cap": "limit",
    "chaos": "fault or drill",
    "child": "worker",
    "conversion": "preparation",
    "customer": "tenant",
    "executor": "worker",
    "flavor": "version",
    "flavour": "version",
    "healthy": "live, ready or well",
    "instance": "replica",
    "iteration": "step",
    "job": "request",
    "kill": "abort",
    "kpi": "objective",
    "legacy": "alias",
    "origin": "upstream",
    "ping": "beat",
    "plugin": "engine module",
    "provider": "upstream",
    "quota": "budget",
    "req": "request",
    "seq": "sequence",
    "slot": "block or permit",
    "swap": "preempt",
    "threshold": "limit",
    "throttle": "reject, rate or shed",
    "tick": "step",
    "utilization": "saturation",
    "variant": "version",
}
MODULE_WORDS: Final = frozenset(
    {"base", "common", "handler", "handlers", "helper", "helpers", "manager", "misc", "util"}
    | {"utils"}
)
# Names that others chose: module.name -> why.
GIVEN: Final[dict[str, str]] = {
    "forebay.gateway.config.cors_origins": "the Fetch standard's word for whose page it is",
    "forebay.drill.stand_ins.pynvml.nvmlDeviceGetUtilizationRates": "NVIDIA's own name",
}


def words_of(name: str) -> list[str]:
    """Split a snake_case or CamelCase name into lower-case words."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word for word in spaced.lower().split("_") if word]


def public_names(module: Module) -> Iterator[tuple[ast.stmt | ast.arg, str]]:
    """Names others can see: of classes, functions, their parameters, fields and constants."""
    yield from _public_in(module.tree.body)


def banned(module: Module) -> Iterator[str]:
    """Public names with a word that the vocabulary replaces."""
    for node, name in public_names(module):
        for word in words_of(name):
            singular = word if word in BANNED else word.removesuffix("s")
            if singular in BANNED and f"{module.name}.{name}" not in GIVEN:
                yield f"{module.at(node)}: {name}: say {BANNED[singular]}, not {word}"


def badly_named(name: str) -> Iterator[str]:
    """Modules named for nothing, or by history."""
    for part in name.split("."):
        found = set(words_of(part)) & MODULE_WORDS
        if found or re.search(r"(^|_)v\d+$", part):
            yield f"{name}: a module is a noun of the domain, not {part}"


def _public_in(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt | ast.arg, str]]:
    for node in body:
        match node:
            case ast.ClassDef(name=name) if not name.startswith("_"):
                yield node, name
                yield from _public_in(node.body)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if not name.startswith("_"):
                    yield node, name
                    yield from _parameters(node)
            case ast.Assign(targets=targets):
                names = [each.id for each in targets if isinstance(each, ast.Name)]
                yield from ((node, name) for name in names if not name.startswith("_"))
            case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
                yield node, name
            case _:
                pass


def _parameters(function: Function) -> Iterator[tuple[ast.arg, str]]:
    for parameter in (*function.args.args, *function.args.kwonlyargs):
        yield parameter, parameter.arg


def test_public_names_use_the_vocabulary() -> None:
    report(offence for module in source() for offence in banned(module))


def test_modules_are_nouns_of_the_domain() -> None:
    report(offence for module in source() for offence in badly_named(module.name))


@pytest.mark.parametrize(
    "text",
    [
        "class JobQueue: ...",
        "def next_tick(): ...",
        "def run(*, backends): ...",
        "class A:\n    cache_slots: int = 1",
        "WAIT_THRESHOLD = 3",
    ],
)
def test_the_rule_sees_a_banned_word(text: str) -> None:
    assert list(banned(example(text)))


@pytest.mark.parametrize("text", ["def _job(): ...", "capacity = 1", "def f():\n    tick = 1"])
def test_the_rule_leaves_private_names_and_parts_of_words_alone(text: str) -> None:
    assert not list(banned(example(text)))


def test_the_rule_sees_a_module_named_for_nothing() -> None:
    assert list(badly_named("forebay.core.utils"))
    assert list(badly_named("forebay.serve.request_handler"))
    assert list(badly_named("forebay.gateway.api_v2"))
    assert not list(badly_named("forebay.core.request"))
