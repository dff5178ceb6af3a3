# ruff: noqa: ANN401 - a template's values are of any type
"""A Jinja environment whose templates end: each operation is paid for, each value is bounded.

A chat template comes with the model, so it is untrusted.  Jinja's sandbox keeps it from
reaching Python; it does not keep it from looping or from doubling a string forty times.  There
is no thread to time it out in a worker, so every operation that repeats, or whose cost grows
with its operands, passes through the `Meter`: loops, calls, filters, tests, comparisons,
operators, literals and output.  Filters and methods are an allow-list.

Imported when a model is loaded, so that no other process pays for Jinja.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final, cast

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_indent
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from forebay.engine.template_meter import Meter, TooMuch

_FILTERS: Final = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float"),
    *("int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject"),
    *("rejectattr", "reverse", "safe", "select", "selectattr", "sort"),
    *("string", "title", "trim", "unique", "upper"),
)
_GLOBALS: Final = ("cycler", "dict", "joiner", "range")
_METHODS: Final = frozenset(
    (
        *("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha"),
        *("isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "isupper"),
        *("lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind", "rindex"),
        *("rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip"),
        *("swapcase", "title", "upper"),
    )
)
"""Methods of str whose result is not much longer than what goes in."""

_INDENT_MAX: Final = 16
_CALL_UNITS: Final = 10  # a macro that calls itself takes ten times as long as a node
_CONSTANTS_A_UNIT: Final = 16
"""Characters of constant text that a turn of a loop writes for one unit of work."""

_LOOP, _BOUNDED, _SCAN, _CONCAT = "meter_loop", "meter_bounded", "meter_scan", "meter_concat"


class RaisedByTemplate(TemplateError):
    """The template itself refused the conversation."""


class _GenerationTag(Extension):
    """`{% generation %}` marks what a model learns from; for rendering it means nothing."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Jinja's, but it does not print what it holds: that could be itself, or doublings of it."""

    def __repr__(self) -> str:
        return "namespace()"


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox with a meter."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        """Set Hugging Face's conventions; offer what is on the lists above and nothing else."""
        self.meter = meter = Meter()
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            autoescape=False,
            extensions=[loopcontrols, _GenerationTag],
            finalize=meter.output,
        )
        self.filters = {name: self._metered(self.filters[name]) for name in _FILTERS} | {
            "tojson": self._metered(_tojson),
            "indent": self._metered(_indent),
            "replace": self._replace,
            "join": self._join,
            _LOOP: meter.loop,
            _BOUNDED: meter.bounded,
            _SCAN: meter.scan,
            _CONCAT: meter.concat,
        }
        tests = cast("dict[str, Callable[..., Any]]", self.tests)
        self.tests = {name: self._metered(test) for name, test in tests.items()}
        self.globals = {name: self.globals[name] for name in _GLOBALS} | {
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _Instrument().visit(super()._parse(source, name, filename))
        assert isinstance(tree, nodes.Template)
        return tree

    def call(self, context: Context, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, a macro or a method, within the allowance."""
        method = getattr(called, "__wrapped__", called)  # the sandbox wraps str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            args = self._checked_method(owner, method.__name__, args)
        elif isinstance(owner, int | float | bytes):
            raise SecurityError("methods of numbers are not offered to templates")
        self.meter.spend(_CALL_UNITS)
        for value in (owner, *args, *kwargs.values()):
            self.meter.scan(value)
        return self.meter.bounded(super().call(context, called, *args, **kwargs))

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look up an item; a slice of a long value costs its length."""
        if isinstance(argument, slice):
            self.meter.scan(obj)
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: PLR0917 - Jinja's
        """Apply an operator whose result may be much larger than its operands."""
        match operator:
            case "**":
                self.meter.check_size(abs(left) * abs(right))
            case "*":
                self.meter.check_size(_repeated(left, right))
            case "%" if isinstance(left, str):
                self.meter.check_format(left)
        self.meter.scan(left)
        self.meter.scan(right)
        return self.meter.bounded(super().call_binop(context, operator, left, right))

    def _checked_method(self, owner: str, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        match name:
            case "format":
                self.meter.check_format(owner)
            case "replace":
                self.meter.check_replace(owner, str(args[0]), str(args[1]))
            case "join":
                return (self.meter.check_join(owner, args[0]),)
            case _ if name not in _METHODS:
                raise SecurityError("this method of str is not offered to templates")
        return args

    def _metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the filter or test with its work paid for and its result bounded."""

        @wraps(function)
        def metered(*args: Any, **kwargs: Any) -> Any:
            for value in args:
                self.meter.scan(value)
            return self.meter.bounded(function(*args, **kwargs))

        return metered

    def _replace(self, value: Any, old: str, new: str, count: int = -1) -> str:  # noqa: PLR0917 - str's
        text = str(value)
        self.meter.check_replace(text, str(old), str(new))
        return text.replace(str(old), str(new), count)

    def _join(self, items: Any, d: str = "", attribute: str | int | None = None) -> str:
        found = self.meter.check_join(str(d), items)
        if attribute is not None:
            found = [self.getitem(item, attribute) for item in found]
            self.meter.check_join(str(d), found)
        return str(d).join([str(item) for item in found])


class _Instrument(NodeTransformer):
    """Wraps what repeats or grows in filters that pay."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Make each turn of a loop cost what stands in its body."""
        if node.recursive:
            raise TemplateSyntaxError("recursive loops are not offered", node.lineno)
        constants = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        cost = 1 + sum(1 for _ in node.find_all(nodes.Expr)) + constants // _CONSTANTS_A_UNIT
        self.generic_visit(node)
        assert isinstance(node.iter, nodes.Expr)
        node.iter = _through(_LOOP, node.iter, nodes.Const(cost))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """Make `~` weigh its operands."""
        self.generic_visit(node)
        return _through(_CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Make a comparison pay for what it reads."""
        self.generic_visit(node)
        node.expr = _through(_SCAN, node.expr)
        for operand in node.ops:
            operand.expr = _through(_SCAN, operand.expr)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        """Bound a list, which may hold one twice that holds one twice."""
        self.generic_visit(node)
        return _through(_BOUNDED, node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        """Bound it like a list."""
        self.generic_visit(node)
        return _through(_BOUNDED, node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        """Bound it like a list, unless names are unpacked into it."""
        self.generic_visit(node)
        return _through(_BOUNDED, node) if node.ctx == "load" else node


def _through(name: str, node: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _repeated(left: Any, right: Any) -> int:
    """Return the length of a repeated sequence; other products have none."""
    times, value = (left, right) if isinstance(left, int) else (right, left)
    sized = isinstance(times, int) and isinstance(value, str | list | tuple)
    return times * (len(value) + 1) if sized else 0


def _tojson(
    value: Any, *, ensure_ascii: bool = False, indent: int | None = None, **how: Any
) -> str:
    if indent is not None and not 0 <= indent <= _INDENT_MAX:
        raise TooMuch("a wide indent")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **how)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:  # noqa: FBT001, FBT002, PLR0917 - Jinja's
    if (width if isinstance(width, int) else len(width)) > _INDENT_MAX:
        raise TooMuch("a wide indent")
    return do_indent(str(text), width, first, blank)


def _raise_exception(message: str) -> None:
    raise RaisedByTemplate(message)


def _strftime_now(form: str) -> str:
    return datetime.now(UTC).strftime(form)
