"""Adapters by name, each kept for as long as a name or a sequence needs it.

A name may be taken back, or given to another adapter, while sequences still use the one that it
meant: they keep it, nobody new gets it, and it goes when the last of them has ended.
"""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Generic, TypeVar

from forebay.engine.protocol import CannotLoad, Refused

T = TypeVar("T")


class NamedAdapters(ABC, Generic[T]):
    """The adapters over one model; `T` is what the library calls one, and never twice the same."""

    def __init__(self, *, engine: str, count_max: int) -> None:
        """Begin with none; `engine` names the section whose `adapters_max` is `count_max`."""
        self._setting = f"{engine}.adapters_max"
        self._count_max = count_max
        # The whole mutable state.
        self._named: dict[str, T] = {}
        self._users: Counter[T] = Counter()
        """Sequences that use it; one without a name stays until there are none."""

    @abstractmethod
    def _drop(self, adapter: T) -> None:
        """Take an adapter out of the library: nobody needs it any more."""

    def names(self) -> list[str]:
        """Return the names that a request may ask for, sorted."""
        return sorted(self._named)

    @property
    def kept(self) -> int:
        """How many there are, those included that have no name any more."""
        return len({*self._named.values(), *self._users})

    def take(self, name: str) -> T | None:
        """Return what a sequence will use; None for no name.  Raises Refused for an unknown one."""
        if not name:
            return None
        adapter = self._named.get(name)
        if adapter is None:
            known = ", ".join(self.names()) or "none"
            raise Refused(f"There is no such adapter here. Loaded: {known}.", param="model")
        self._users[adapter] += 1
        return adapter

    def give_back(self, adapter: T) -> None:
        """Note that a sequence uses an adapter no more."""
        self._users[adapter] -= 1
        if not self._users[adapter]:
            del self._users[adapter]
            if adapter not in self._named.values():
                self._drop(adapter)

    def unload(self, name: str) -> None:
        """Forget an adapter; an unknown name is no error."""
        adapter = self._named.pop(name, None)
        if adapter is not None and not self._users[adapter]:
            self._drop(adapter)

    def _require_room(self, name: str) -> None:
        """Raise CannotLoad if a name would be one too many."""
        if name not in self._named and len(self._named) >= self._count_max:
            raise CannotLoad(
                f"{len(self._named)} adapters are loaded, which is {self._setting}. "
                "Unload one first."
            )

    def _give(self, name: str, adapter: T) -> None:
        """Let an adapter be asked for; the one that had its name before is asked no more."""
        self.unload(name)
        self._named[name] = adapter
