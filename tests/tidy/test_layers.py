"""Rule 1: imports go down only, and what is heavy is imported where it is used."""

import ast
import functools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import packages_distributions
from typing import Final

from tests.tidy.source import STDLIB, Module, example, functions, imports, read, report, source

LEVELS: Final = {
    "core": 0,
    "policy": 1,
    "engine": 2,
    "engines": 3,
    "telemetry": 3,
    "accounts": 3,
    "guard": 3,
    "bench": 3,
    "testing": 6,
    "models": 4,
    "serve": 5,
    "gateway": 6,
    "settings": 7,
    "fleet": 8,
    "tenancy": 8,
    "entrance": 8,
    "observing": 8,
    "monitoring": 7,
    "drill": 8,
    "doctor": 8,
    "app": 9,
    "process": 10,
    "cli": 11,
    "__main__": 12,
}
# They cost megabytes and seconds, or are optional: a gateway process must start without them.
# fmt: off
HEAVY: Final = frozenset({
    "gguf", "huggingface_hub", "jinja2", "nncf", "numpy", "onnxruntime_genai", "openvino",
    "openvino_genai", "openvino_tokenizers", "ray", "safetensors", "tokenizers", "torch",
    "transformers", "vllm", "xllamacpp",
})
# fmt: on
HEAVY_IN: Final = frozenset({"engine", "engines", "models"})
# Ours that derive from heavy classes: they import at their top, so they count as heavy themselves.
HEAVY_OURS: Final = frozenset({"forebay.engine.chat_template", "forebay.engine.template_sandbox"})
# Modules of these may be heavy as a whole, if whoever starts light imports them in a function.
MAY_WEIGH: Final = frozenset({"engine", "models"})
# Imported though pyproject.toml does not name it, because it is part of another's interface.
THROUGH_ANOTHER: Final = {"pydantic": "fastapi", "tqdm": "huggingface-hub"}


def upward(module: Module) -> Iterator[str]:
    """Imports that do not go strictly down."""
    own = module.package
    for node, name in imports(module.tree):
        parts = f"{name}.__version__".split(".")
        if parts[0] != "forebay" or parts[1] in {"__version__", own}:
            continue
        if parts[1] not in LEVELS:
            yield f"{module.at(node)}: {parts[1]} has no level in tests/tidy/test_layers.py"
        elif not own or LEVELS[parts[1]] >= LEVELS.get(own, -1):
            yield f"{module.at(node)}: {own or 'forebay'} may not import {parts[1]}"


def misplaced_heavy(module: Module) -> Iterator[str]:
    """Heavy libraries in packages that have no business with them."""
    for node, name in imports(module.tree):
        if name.split(".")[0] in HEAVY and module.package not in HEAVY_IN:
            yield f"{module.at(node)}: {name} belongs in {', '.join(sorted(HEAVY_IN))}"


def weighty(modules: Iterable[Module]) -> Iterator[str]:
    """Modules that load something heavy as soon as they are imported, and must not."""
    loads = {module.name: set(_when_imported(module)) for module in modules}
    heavy: dict[str, str] = {}
    grew = True
    while grew:
        found = {name: _first_heavy(loaded, heavy) for name, loaded in loads.items()}
        weighed = {name: reason for name, reason in found.items() if reason}
        grew, heavy = len(weighed) > len(heavy), weighed
    for name, reason in heavy.items():
        if name.split(".")[1] not in MAY_WEIGH:
            yield f"{name}: loads {reason} when imported; import it in the function that uses it"


def foreign(module: Module, allowed: frozenset[str]) -> Iterator[str]:
    """Imports of neither the standard library, nor us, nor a distribution in `allowed`."""
    known = installed()
    for node, name in imports(module.tree):
        top = name.split(".")[0]
        if top in STDLIB or top == "forebay":
            continue
        distributions = {_normal(found) for found in known.get(top, [top])}
        if not distributions & allowed:
            yield f"{module.at(node)}: {top} is not a dependency in pyproject.toml"


@functools.cache
def installed() -> Mapping[str, list[str]]:
    """Importable name -> distributions that bring it (a slow look at the environment)."""
    return packages_distributions()


@functools.cache
def declared(*, dev: bool = False) -> frozenset[str]:
    """The distributions that pyproject.toml names; those for our tests only if `dev`."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"]]
    lines += [line for extra, found in extras.items() if dev or extra != "dev" for line in found]
    names = {_normal(re.split(r"[^\w.-]", line)[0]) for line in lines}
    reached = {through for through, giver in THROUGH_ANOTHER.items() if giver in names}
    # The engine library is several distributions with one version; we name the outermost.
    return frozenset(names | reached | {"openvino", "openvino-tokenizers"})


def _first_heavy(loaded: set[str], heavy: Mapping[str, str]) -> str:
    for name in sorted(loaded):
        if name.split(".")[0] in HEAVY:
            return name
        # `from a.b import c` may mean the module a.b.c or the name c of the module a.b.
        for module in (name, name.rpartition(".")[0]):
            if module in heavy:
                return f"{heavy[module]} (by {module})"
    return ""


def _when_imported(module: Module) -> Iterator[str]:
    later = {id(node) for function in functions(module) for node, _ in imports(function)}
    later |= {id(node) for guard in _type_guards(module) for node, _ in imports(guard)}
    yield from (name for node, name in imports(module.tree) if id(node) not in later)


def _type_guards(module: Module) -> Iterator[ast.If]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield node


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_imports_go_strictly_down() -> None:
    report(offence for module in source() for offence in upward(module))


def test_every_package_has_a_level() -> None:
    report(
        f"{module.path}: {module.package} has no level"
        for module in source()
        if module.package and module.package not in LEVELS
    )


def test_heavy_libraries_stay_where_engines_and_models_are() -> None:
    report(offence for module in source() for offence in misplaced_heavy(module))


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    report(weighty(source()))


def test_core_and_policy_need_the_standard_library_only() -> None:
    pure = [module for module in source() if module.package in {"core", "policy"}]
    assert pure
    report(offence for module in pure for offence in foreign(module, frozenset()))


def test_every_imported_library_is_a_declared_dependency() -> None:
    # The contract suites are pytest's, for those who write an engine.
    report(
        offence
        for module in source()
        for offence in foreign(module, declared(dev=module.package == "testing"))
    )


def test_the_rule_sees_an_import_that_goes_up_or_sideways() -> None:
    text = "def f():\n    from forebay.telemetry.metrics import Metrics"
    assert list(upward(example(text, "forebay.core.clock")))
    assert list(upward(example(text, "forebay.engines.scripted")))
    assert not list(upward(example("import forebay", "forebay.core.clock")))
    assert list(upward(example("import forebay.nowhere", "forebay.core.clock")))
    assert not list(upward(example(text, "forebay.gateway.ops")))


def test_the_rule_sees_a_heavy_import_in_the_wrong_package() -> None:
    assert list(misplaced_heavy(example("def f():\n    import numpy", "forebay.gateway.x")))
    assert not list(misplaced_heavy(example("import numpy", "forebay.engines.x")))


def test_the_rule_sees_what_is_loaded_too_early_also_through_others() -> None:
    heavy = example("import jinja2.sandbox", "forebay.engine.template")
    between = example("from forebay.engine.template import render", "forebay.engine.text")
    early = example("from forebay.engine import text", "forebay.gateway.x")
    late = example("def f():\n    from forebay.engine import text", "forebay.gateway.x")
    assert not list(weighty([heavy, between]))
    assert list(weighty([heavy, between, early]))
    assert not list(weighty([heavy, between, late]))
    assert list(weighty([example("import numpy", "forebay.engines.x")]))
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"
    assert not list(weighty([example(guarded, "forebay.engines.x")]))


def test_the_rule_sees_a_library_that_nobody_declared() -> None:
    assert list(foreign(example("import hypothesis"), declared()))
    assert list(foreign(example("import msgspec"), frozenset()))
    assert not list(foreign(example("import yaml, os"), declared()))
