"""The pages of docs/runbooks as data: headings, commands, and what those are to show."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / "docs" / "runbooks"
HEADINGS: Final = (
    "What fired",
    "What users notice",
    "Look first",
    "Causes, most likely first",
    "Mend it",
    "It is over when",
    "Afterwards",
)
MENDING: Final = "Mend it"

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```\n*", re.MULTILINE | re.DOTALL)
_EXPECTED: Final = re.compile(r"(Healthy|Answer): (.*?)(?:\.(?=\s)|;|\Z)", re.DOTALL)
_VALUE: Final = re.compile(r"each value is (?:(below|above) )?(-?[\d.]+)")
_SAMPLE: Final = re.compile(r"(?:=> |\s)(-?(?:[\d.]+(?:e[+-]?\d+)?|Inf|NaN))(?: @\[.*\])?$")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a page says of a command's output."""

    text: str

    def objections(self, output: str) -> Iterator[str]:
        """Yield what is not as the page says."""
        if not output.strip() and "prints nothing" in self.text:
            return
        if self.text.strip() == "prints nothing" and output.strip():
            yield "printed something"
        for absent in re.findall(r"no `([^`]+)`", self.text):
            if absent in output:
                yield f"shows {absent}"
        for shown in re.findall(r"(?<!no )`([^`]+)`", self.text):
            if shown not in output:
                yield f"does not show {shown}"
        yield from self._wrong_values(output)

    def _wrong_values(self, output: str) -> Iterator[str]:
        bound = _VALUE.search(self.text)
        if bound is None:
            return
        if not output.strip():
            yield "printed no value"
        for line in output.strip().splitlines():
            found = _SAMPLE.search(line)
            if found is None:
                yield f"has no value: {line}"
            elif found[1] == "NaN" and "prints nothing" in self.text:
                continue  # of nothing that happened there is no quantile
            elif not _fits(float(found[1]), bound[1], float(bound[2])):
                yield f"is not {bound[0].removeprefix('each value is ')}: {line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One fenced command of a page."""

    heading: str
    text: str
    expected: Expectation | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One runbook."""

    name: str
    text: str

    @property
    def headings(self) -> tuple[str, ...]:
        """Its headings, in their order."""
        return tuple(re.findall(r"^## (.+)$", self.text, re.MULTILINE))

    @property
    def head(self) -> str:
        """The line under its title."""
        return self.text.splitlines()[2]

    @property
    def query(self) -> str:
        """What Prometheus asks."""
        (found,) = re.findall(r"^```promql\n(.*?)\n```", self.text, re.MULTILINE | re.DOTALL)
        return str(found)

    def commands(self) -> Iterator[Command]:
        """Yield its commands in their order."""
        for heading, part in _parts(self.text):
            for block in _BLOCK.finditer(part):
                said = _EXPECTED.match(part, block.end())
                if block[1] == "bash":
                    yield Command(
                        heading=heading,
                        text=block[2].strip(),
                        expected=None if said is None else Expectation(said[2]),
                    )

    def spans(self) -> Iterator[str]:
        """Yield what stands in `code` outside the fenced blocks."""
        yield from re.findall(r"`([^`\n]+)`", _BLOCK.sub("", self.text))


def pages() -> tuple[Page, ...]:
    """Every runbook, by name; the index is none."""
    files = sorted(FOLDER.glob("*.md"))
    return tuple(_page(file) for file in files if file.name != "README.md")


def index() -> Page:
    """The page that explains the others."""
    return _page(FOLDER / "README.md")


def _page(file: Path) -> Page:
    return Page(name=file.stem, text=file.read_text(encoding="utf-8"))


def _parts(text: str) -> Iterator[tuple[str, str]]:
    pieces = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    yield "", pieces[0]
    yield from zip(pieces[1::2], pieces[2::2], strict=True)


def _fits(value: float, side: str | None, bound: float) -> bool:
    match side:
        case "below":
            return value < bound
        case "above":
            return value > bound
        case _:
            return value == bound
