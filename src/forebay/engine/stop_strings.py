"""Texts that end an answer and are not in it, found while the answer arrives in pieces.

The texts are one automaton (Aho-Corasick), so the cost of a character does not grow with
their number.  What may still become a stop text is held back: it never leaks in part.  The
text that is complete first wins, of those complete at the same character the longest; so the
answer does not depend on where the pieces were cut.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

_ROOT: Final = 0


class StopTable:
    """The automaton over some stop texts.  A state is a prefix of one of them; 0 is none."""

    __slots__ = ("after", "depth", "fallback", "stop_length")

    def __init__(self, stops: Sequence[str]) -> None:
        """Build it; time and memory are linear in the texts' length together."""
        assert all(stops), "an empty stop text would end every answer at once"
        self.after: list[dict[str, int]] = [{}]
        self.fallback = [_ROOT]
        self.depth = [0]
        self.stop_length = [0]
        for stop in stops:
            self._add(stop)
        self._link()

    def _add(self, stop: str) -> None:
        state = _ROOT
        for character in stop:
            following = self.after[state].get(character)
            if following is None:
                following = len(self.after)
                self.after[state][character] = following
                self.after.append({})
                self.fallback.append(_ROOT)
                self.depth.append(self.depth[state] + 1)
                self.stop_length.append(0)
            state = following
        self.stop_length[state] = len(stop)

    def _link(self) -> None:
        """Point each state to its longest proper suffix that is a state, nearest first."""
        rest = deque(self.after[_ROOT].values())
        while rest:
            state = rest.popleft()
            for character, following in self.after[state].items():
                self.fallback[following] = self.step(self.fallback[state], character)
                rest.append(following)
            if not self.stop_length[state]:
                self.stop_length[state] = self.stop_length[self.fallback[state]]

    def step(self, state: int, character: str) -> int:
        """Return the state after one more character."""
        while state and character not in self.after[state]:
            state = self.fallback[state]
        return self.after[state].get(character, _ROOT)


class StopFilter:
    """One answer's text through the table.  Mutable state: the text held back, and the state."""

    __slots__ = ("_held", "_state", "_table", "stopped")

    def __init__(self, table: StopTable) -> None:
        """Start with nothing held back."""
        self._table = table
        self._state = _ROOT
        self._held = ""
        self.stopped = False

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._held)

    def push(self, text: str) -> str:
        """Return the text that is now certain to be in the answer.

        Once `stopped` is true, the answer has ended: what was returned was its last text.
        """
        assert not self.stopped, "nothing follows a stop text"
        table, state = self._table, self._state
        for index, character in enumerate(text):
            state = table.step(state, character)
            if length := table.stop_length[state]:
                self.stopped = True
                seen = self._held + text[: index + 1]
                self._held = ""
                return seen[: len(seen) - length]
        self._state = state
        text = self._held + text
        certain = len(text) - table.depth[state]
        self._held = text[certain:]
        return text[:certain]

    def flush(self) -> str:
        """Return what is held back: the answer has ended, and it was no stop text."""
        held, self._held = self._held, ""
        self._state = _ROOT
        return held
