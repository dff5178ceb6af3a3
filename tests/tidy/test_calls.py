"""Rule 4, calls: what is never called, and what is caught in three places only."""

import ast
import re
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.tidy.source import Module, comments, example, imports, report, source, suites

NEVER_IMPORTED: Final = {
    "dill": "it runs what it reads",
    "marshal": "it runs what it reads",
    "pickle": "it runs what it reads",
    "shelve": "it runs what it reads",
}
NEVER_CALLED: Final = {
    "__import__": "import by name, or use importlib on a name of ours",
    "asyncio.create_subprocess_shell": "name the program and its arguments",
    "compile": "it prepares what it reads to be run",
    "eval": "it runs what it reads",
    "exec": "it runs what it reads",
    "joblib.load": "it runs what it reads",
    "np.load": "it may run what it reads; load safetensors",
    "numpy.load": "it may run what it reads; load safetensors",
    "os.popen": "name the program and its arguments",
    "print": "write an event to the log, or use the cli's console",
    "os.system": "name the program and its arguments",
    "subprocess.getoutput": "name the program and its arguments",
    "torch.load": "it runs what it reads; load safetensors",
    "yaml.full_load": "use yaml.safe_load",
    "yaml.load": "use yaml.safe_load",
    "yaml.unsafe_load": "use yaml.safe_load",
}
NEVER_TRUE: Final = {
    "allow_pickle": "it runs what it reads",
    "shell": "name the program and its arguments",
    "trust_remote_code": "it runs what it fetched",
}
# The HTTP edge, the worker's main loop, the thread that calls foreign exporters.
CATCH_ALL_IN: Final = frozenset(
    {"forebay.gateway.edge", "forebay.engine.worker", "forebay.telemetry.otlp_sending"}
)
BROAD: Final = frozenset({"Exception", "BaseException"})
REASON: Final = re.compile(r": [A-Z0-9, ]+ - \S")
SQL: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER)\s", re.IGNORECASE)
TAKES_SQL: Final = frozenset({"exec_driver_sql", "execute", "executemany", "executescript", "text"})
"""Called with a statement: it is never put together on the spot."""
SECRET: Final = re.compile(
    r"(^|_)(api_key|checksum|credential|digest|hash|hmac|mac|password|secret|signature)s?$"
)
SHOWN_IN: Final = ("forebay.accounts", "forebay.gateway", "forebay.serve")
"""Where credentials are handled; digests of model files, which are no secrets, are elsewhere."""


def unsafe(module: Module) -> Iterator[str]:
    """Imports and calls that are never right here."""
    for statement, name in imports(module.tree):
        top = name.split(".")[0]
        if top in NEVER_IMPORTED:
            yield f"{module.at(statement)}: no {top}: {NEVER_IMPORTED[top]}"
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in NEVER_CALLED:
            yield f"{module.at(node)}: no {name}: {NEVER_CALLED[name]}"
        for word in node.keywords:
            if word.arg in NEVER_TRUE and _is_true(word.value):
                yield f"{module.at(node)}: no {word.arg}: {NEVER_TRUE[word.arg]}"


def dropped_tasks(module: Module) -> Iterator[str]:
    """Tasks that nobody holds: they vanish when collected, and their errors with them."""
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            continue
        called = ast.unparse(node.value.func)
        if re.fullmatch(r"((asyncio|.*loop(\(\))?)\.)?(create_task|ensure_future)", called):
            yield f"{module.at(node)}: keep the task's handle, or use a TaskGroup"


def broad_catches(module: Module) -> Iterator[str]:
    """`except Exception` outside its three places; one that passes it on hides nothing."""
    if module.name in CATCH_ALL_IN:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and not _passes_on(node):
            kinds = {"BaseException"} if node.type is None else _names(node.type)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            kinds = {name for argument in node.args for name in _names(argument)}
        else:
            continue
        if kinds & BROAD:
            yield f"{module.at(node)}: catch what you expect, by name"


def built_sql(module: Module) -> Iterator[str]:
    """SQL put together from strings."""
    for node in ast.walk(module.tree):
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                head = text
            case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod() | ast.Add()):
                head = text
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
                head = text
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=[given, *_]):
                head = "SELECT " if name in TAKES_SQL and _is_put_together(given) else ""
            case _:
                continue
        if SQL.match(head):
            yield f"{module.at(node)}: pass values as parameters of the statement"


def plainly_compared(module: Module) -> Iterator[str]:
    """`==` on secrets and on their digests: how long it takes tells how much was right."""
    if not module.name.startswith(SHOWN_IN):
        return
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(operation, ast.Eq | ast.NotEq) for operation in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) and not side.value for side in sides):
            continue  # whether there is one at all
        if any(SECRET.search(_last_name(side)) for side in sides):
            yield f"{module.at(node)}: compare secrets by hmac.compare_digest"


def unexplained(module: Module) -> Iterator[str]:
    """Lint checks switched off without a code and a reason; mypy asks for its codes itself."""
    for number, comment in comments(module):
        for off in re.finditer(r"#\s*noqa(.*)", comment):
            if not REASON.match(off.group(1)):
                yield f"{module.path}:{number}: say which check is off, and why, on its line"


def _is_put_together(node: ast.expr) -> bool:
    """Whether a text is made of parts that are not all written there."""
    match node:
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]) if text.startswith("PRAGMA"):
            return False  # SQLite takes no parameters there
        case ast.JoinedStr(values=values):
            return any(isinstance(value, ast.FormattedValue) for value in values)
        case ast.BinOp(left=left, op=ast.Mod() | ast.Add(), right=right):
            return any(isinstance(side, ast.Constant | ast.JoinedStr) for side in (left, right))
        case ast.Call(func=ast.Attribute(attr="format" | "format_map" | "join")):
            return True
        case _:
            return False


def _last_name(node: ast.expr) -> str:
    """Return the name that a value goes by: of a variable, a field, a call, or an entry."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lower()
        case ast.Call(func=called):
            return _last_name(called)
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name.lower()
        case ast.Subscript(value=value):
            return _last_name(value)
        case _:
            return ""


def _names(node: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _passes_on(node: ast.ExceptHandler) -> bool:
    last = node.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


@pytest.mark.parametrize(
    "rule", [unsafe, dropped_tasks, broad_catches, built_sql, plainly_compared, unexplained]
)
def test_the_source_keeps(rule: Callable[[Module], Iterator[str]]) -> None:
    report(offence for module in source() for offence in rule(module))


def test_the_tests_explain_what_they_switch_off() -> None:
    report(offence for module in suites() for offence in unexplained(module))


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from marshal import loads",
        "print(1)",
        "eval('1')",
        "yaml.load(x)",
        "torch.load(x)",
        "subprocess.run(x, shell=True)",
        "subprocess.getoutput(x)",
        "compile(x, y, 'exec')",
        "import dill",
        "import shelve",
        "numpy.load(x)",
        "load(x, allow_pickle=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "yaml.full_load(x)",
        "__import__(x)",
    ],
)
def test_the_rule_sees_an_unsafe_call(text: str) -> None:
    assert list(unsafe(example(text)))
    harmless = "yaml.safe_load(x)\nconsole.print(x)\nre.compile(x)\nf(trust_remote_code=False)"
    assert not list(unsafe(example(harmless)))


@pytest.mark.parametrize(
    "text",
    [
        "asyncio.create_task(f())",
        "loop.create_task(f())",
        "asyncio.get_running_loop().create_task(f())",
    ],
)
def test_the_rule_sees_a_dropped_task(text: str) -> None:
    assert list(dropped_tasks(example(text)))
    assert not list(
        dropped_tasks(example("task = asyncio.create_task(f())\ngroup.create_task(g())"))
    )


@pytest.mark.parametrize(
    "text",
    [
        "try: f()\nexcept Exception: ...",
        "try: f()\nexcept (ValueError, BaseException) as e: ...",
        "try: f()\nexcept: ...",
        "contextlib.suppress(Exception)",
    ],
)
def test_the_rule_sees_a_broad_catch(text: str) -> None:
    assert list(broad_catches(example(text)))
    assert not list(broad_catches(example(text, "forebay.engine.worker")))
    assert not list(broad_catches(example("try: f()\nexcept OSError: ...")))
    passed_on = "try: f()\nexcept BaseException:\n    tidy_up()\n    raise"
    assert not list(broad_catches(example(passed_on)))


def test_the_rule_sees_sql_made_of_strings() -> None:
    assert list(built_sql(example("f'SELECT * FROM {table}'")))
    assert list(built_sql(example("'DELETE FROM keys WHERE id = ' + id")))
    assert list(built_sql(example("'DELETE FROM {}'.format(table)")))
    assert list(built_sql(example("text(f'{head} FROM keys')")))
    assert list(built_sql(example("connection.execute('WITH a AS (' + query + ')')")))
    assert list(built_sql(example("connection.exec_driver_sql(' '.join(parts))")))
    assert not list(built_sql(example("connection.execute(f'PRAGMA page_size={bytes}')")))
    assert not list(built_sql(example("'SELECT 1'")))
    assert not list(built_sql(example("connection.execute(STATEMENT, {'id': id})")))
    assert not list(built_sql(example("connection.execute(select(KEYS).where(KEYS.c.id == id))")))


@pytest.mark.parametrize(
    "text",
    [
        "secret == shown",
        "row.password_hash != hashed",
        "hashlib.sha256(shown).digest() == stored",
        "row['digest'] == found",
        "shown == self._api_key",
    ],
)
def test_the_rule_sees_a_secret_that_is_plainly_compared(text: str) -> None:
    assert list(plainly_compared(example(text, "forebay.accounts.keys")))
    assert not list(plainly_compared(example(text, "forebay.models.artefacts")))
    fine = "hmac.compare_digest(secret, shown)\nsecret is None\npassword == ''\nKEYS.c.id == key_id"
    assert not list(plainly_compared(example(fine, "forebay.accounts.keys")))


def test_the_rule_sees_a_check_switched_off_without_a_reason() -> None:
    assert list(unexplained(example("x = 1  # noqa")))
    assert list(unexplained(example("x = 1  # noqa: E501")))
    assert not list(unexplained(example("x = 1  # noqa: E501 - an address")))
