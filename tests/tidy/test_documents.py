"""Rules 9 to 11: documents name what exists, show what runs, and claim what was measured."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.tidy.commands import RUN_BY, RUN_WHOLE
from tests.tidy.source import ROOT, read, report, source

README_LINES_MAX: Final = 150
ADR_HEADINGS: Final = ("Context", "Decision", "Consequences", "What would change it")
SHELLS: Final = frozenset({"bash", "console", "sh", "shell"})


def documents() -> list[Path]:
    """Every Markdown file that we keep."""
    folders = (ROOT / name for name in ("docs", "deploy", "benchmarks", "examples"))
    below = [path for folder in folders for path in folder.rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *below])


def tree_of(text: str) -> Iterator[str]:
    """Module paths in the fenced tree of the architecture: folders by indentation."""
    folders: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = re.match(r"( *)([a-z0-9_]+(/|\.py))(\s|$)", line)
        if not found:
            continue
        indent, name = len(found.group(1)), found.group(2)
        folders = [folder for folder in folders if folder[0] < indent]
        if name.endswith("/"):
            folders.append((indent, name))
        else:
            yield "".join(folder for _, folder in folders) + name


def unlisted(named: set[str], existing: set[str]) -> Iterator[str]:
    """Differences between the tree in the document and the one on the disk."""
    for path in existing - named:
        yield f"docs/architecture.md: {path} is missing from the tree"
    for path in named - existing:
        yield f"docs/architecture.md: {path} is in the tree and does not exist"


def commands(text: str) -> Iterator[str]:
    """Commands in the fenced shell blocks of a document, each on one line."""
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language not in SHELLS:
            continue
        command = ""
        for line in body.replace("\\\n", " ").splitlines():
            command = f"{command} {line}".strip().removeprefix("$ ")
            if command.count("'") % 2:
                continue  # a quoted text goes on in the next line
            if command and not command.startswith("#"):
                yield re.sub(r"\s+", " ", command)
            command = ""


def unproven(found: Iterator[str], run_by: Mapping[str, str]) -> Iterator[str]:
    """Commands that nobody runs."""
    for command in found:
        if command not in run_by:
            yield f"`{command}`: no test runs it; add one, and a line to tests/tidy/commands.py"


def lost(run_by: Mapping[str, str]) -> Iterator[str]:
    """Entries of the list whose test or script is gone."""
    for command, runner in run_by.items():
        path, _, test = runner.partition("::")
        if not (ROOT / path).is_file() or (test and f"def {test}(" not in read(path)):
            yield f"tests/tidy/commands.py: `{command}`: there is no {runner}"


def unmeasured(text: str) -> Iterator[str]:
    """Rows of measured numbers that point at no file of benchmarks/results/."""
    section = re.search(r"^## Numbers\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\|.*\|$", section.group(1), re.MULTILINE) if section else []
    for row in rows:
        files = re.findall(r"\((benchmarks/results/[^)]+)\)", row)
        if re.search(r"\d", row) and not any((ROOT / file).is_file() for file in files):
            yield f"README.md: {row}: link the file of benchmarks/results/ with the measurement"


def broken_links(text: str, folder: Path) -> Iterator[str]:
    """Relative links to files that do not exist."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file = target.partition("#")[0]
        if file and "://" not in target and not (folder / file).exists():
            yield f"a link to {target} leads nowhere"


def test_the_architecture_names_every_module_and_no_other() -> None:
    modules = {module.path.removeprefix("src/forebay/") for module in source()}
    existing = {path for path in modules if not path.endswith("__init__.py")}
    tree = re.search(
        r"^src/forebay/\n(.*?)^```", read("docs/architecture.md"), re.MULTILINE | re.DOTALL
    )
    assert tree, "docs/architecture.md has no tree"
    report(unlisted(set(tree_of(tree.group(1))), existing))


def test_every_command_in_the_documents_is_run_somewhere() -> None:
    whole = [ROOT / folder for folder in RUN_WHOLE]
    others = [path for path in documents() if path.parent not in whole]
    shown = ((path, commands(path.read_text(encoding="utf-8"))) for path in others)
    found = ((path, offence) for path, text in shown for offence in unproven(text, RUN_BY))
    report(f"{path.relative_to(ROOT)}: {offence}" for path, offence in found)
    report(lost(RUN_BY | RUN_WHOLE))


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for path in documents():
        named = set(re.findall(r"`(?:[A-Z]+=\S+ )*make ([a-z-]+)", path.read_text("utf-8")))
        assert named <= targets, f"{path.relative_to(ROOT)}: no target {named - targets}"


def test_the_readme_is_short_and_its_numbers_were_measured() -> None:
    text = read("README.md")
    assert len(text.splitlines()) <= README_LINES_MAX
    report(unmeasured(text))


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    report(broken_links(path.read_text(encoding="utf-8"), path.parent))


def test_a_decision_record_has_its_four_parts() -> None:
    for path in sorted((ROOT / "docs/adr").glob("*.md")):
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert tuple(headings) == ADR_HEADINGS, path.name


def test_the_rule_sees_a_module_missing_from_the_tree() -> None:
    tree = "  core/        L0\n    clock.py   time\n  app.py   root\n"
    assert list(tree_of(tree)) == ["core/clock.py", "app.py"]
    assert list(unlisted({"app.py"}, {"app.py", "core/clock.py"}))
    assert list(unlisted({"app.py", "gone.py"}, {"app.py"}))


def test_the_rule_sees_a_command_that_nobody_runs() -> None:
    text = "```bash\n# words\n$ make \\\n  serve\n```\n```json\n{}\n```\n"
    assert list(commands(text)) == ["make serve"]
    assert list(unproven(commands(text), {}))
    assert not list(unproven(commands(text), {"make serve": "x"}))
    assert list(lost({"make serve": "tests/gone.py"}))
    assert list(lost({"make serve": "tests/conftest.py::test_gone"}))


def test_the_rule_sees_a_number_without_a_measurement() -> None:
    assert list(unmeasured("## Numbers\n| speed | 4,000 |\n"))
    assert list(unmeasured("## Numbers\n| speed | [4,000](benchmarks/results/gone.json) |\n"))
    assert not list(unmeasured("## Numbers\n| what | how |\n"))


def test_the_rule_sees_a_broken_link() -> None:
    assert list(broken_links("[x](gone.md#a)", ROOT))
    assert not list(broken_links("[x](README.md#a) [y](https://example.com) [z](#a)", ROOT))
