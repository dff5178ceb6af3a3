"""The measures of docs/style.md that are printed rather than enforced."""

import pytest

from tests.tidy.source import Module, comments, functions, source, suites
from tests.tidy.test_sizes import length_of

SHORT_LINES_MAX = 30


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how the source stands against the goals."""
    lengths = [length_of(function) for module in source() for function in functions(module)]
    short = sum(length <= SHORT_LINES_MAX for length in lengths) / max(len(lengths), 1)
    lines, test_lines = map(lines_of, (source(), suites()))
    comments = sum(map(comments_of, source()))
    size, longest = max((len(module.text.splitlines()), module.path) for module in source())
    terminalreporter.write_sep("=", "measures of style")
    terminalreporter.write_line(f"source lines            {lines:>8,}")
    terminalreporter.write_line(f"functions <= 30 lines   {short:>8.0%}   goal 90%")
    terminalreporter.write_line(
        f"comments per 100 lines  {100 * comments / lines:>8.1f}   goal 5-8"
    )
    terminalreporter.write_line(f"test lines per line     {test_lines / lines:>8.2f}   goal 1.2")
    terminalreporter.write_line(f"longest file            {size:>8,}   {longest}")


def lines_of(modules: tuple[Module, ...]) -> int:
    """Lines that are not blank."""
    return sum(1 for module in modules for line in module.text.splitlines() if line.strip())


def comments_of(module: Module) -> int:
    """Comments of a module, those that speak to tools left out."""
    texts = (text for _, text in comments(module))
    return sum(not text.startswith(("# noqa", "# type:", "# fmt:")) for text in texts)
