# ruff: noqa: ANN401 - a template's values are of any type
"""What a chat template may use up: work, the size of one value, output.

A template comes with the model, so it is untrusted, and a worker has no thread to time it out.
Whatever repeats, or costs more for larger operands, pays here before or while it happens.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

_WIDE: Final = re.compile(r"\d{4}|\*|:[^}]*\{")
"""A width in a format that could make megabytes of padding."""

_INT_BITS_MAX: Final = 128
_FORMAT_CHARACTERS_MAX: Final = 4096
_OUTPUTS_OF_A_CHARACTER: Final = 8
"""How often a character may pass through output: macros and `set` blocks capture it."""

# One unit of work evaluates one node, which takes about as long as to move this much.
_CHARACTERS_A_UNIT: Final = 1024
_ITEMS_A_UNIT: Final = 16


class TooMuch(Exception):
    """The template used up its allowance of work or of size."""


class Meter:
    """What one rendering may still use.  Mutable state: the three allowances."""

    def __init__(self) -> None:
        """Allow a little: constants are folded while a template is compiled."""
        self.allow(work=10_000, size=10_000)

    def allow(self, *, work: int, size: int) -> None:
        """Set units of work, and characters and items in one value."""
        self._work_left = work
        self._output_left = _OUTPUTS_OF_A_CHARACTER * size
        self._size_max = size

    def spend(self, work: int) -> None:
        """Pay for work."""
        self._work_left -= work
        if self._work_left < 0:
            raise TooMuch("too much work")

    def check_size(self, size: float) -> None:
        """Refuse a value before it is made."""
        if size > self._size_max:
            raise TooMuch("a value is too large")

    def weigh(self, value: Any) -> int:
        """Return the characters and items in a value; raise if it is too large, however deep."""
        if isinstance(value, str):
            weight, items = len(value), 0
        else:
            weight, items = 0, 1
            rest = [value]
            while rest and items <= self._size_max:
                part = rest.pop()
                items += 1
                if isinstance(part, str):
                    weight += len(part)
                elif isinstance(part, dict):
                    rest += part.keys()
                    rest += part.values()
                elif isinstance(part, list | tuple | set | range):
                    rest += part
        self.spend(weight // _CHARACTERS_A_UNIT + items // _ITEMS_A_UNIT)
        self.check_size(weight + items)
        return weight + items

    def bounded(self, value: Any) -> Any:
        """Return the value if it is small enough; an iterator pays as it is read."""
        if isinstance(value, int):
            if value.bit_length() > _INT_BITS_MAX:
                raise TooMuch("a number is too long")
        elif isinstance(value, str | list | tuple | dict | set | range):
            self.weigh(value)
        elif isinstance(value, Iterator):
            return self.loop(value, 1)
        return value

    def scan(self, value: Any) -> Any:
        """Pay for reading a value; return it."""
        self.spend(1)
        if isinstance(value, str | list | tuple | dict | set | range):
            self.weigh(value)
        return value

    def loop(self, items: Iterable[Any], cost: int) -> Iterator[Any]:
        """Iterate, and pay for each turn."""
        for item in items:
            self.spend(cost)
            yield item

    def concat(self, items: list[Any]) -> str:
        """Join the operands of `~`."""
        self.weigh(items)
        return "".join(map(str, items))

    def output(self, value: Any) -> Any:
        """Pay for text that leaves an expression; text that is captured and used again, again."""
        self._output_left -= self.weigh(value)
        if self._output_left < 0:
            raise TooMuch("too much output")
        return value

    def check_format(self, text: str) -> None:
        """Refuse formats that could make megabytes of padding."""
        if len(text) > _FORMAT_CHARACTERS_MAX or _WIDE.search(text):
            raise TooMuch("a wide format")

    def check_replace(self, text: str, old: str, new: str) -> None:
        """Refuse a replacement whose result would be too large."""
        self.scan(text)
        self.check_size(len(text) + text.count(old) * len(new))

    def check_join(self, separator: str, items: Iterable[Any]) -> list[Any]:
        """Return the items as a list, unless they would make too long a text."""
        found = list(self.loop(items, 1))
        self.check_size(len(separator) * len(found) + self.weigh(found))
        return found
