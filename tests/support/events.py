"""A log that a test can read."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class EventList:
    """An EventLog that keeps what it is told."""

    events: list[tuple[str, dict[str, str | float | bool | None]]] = field(default_factory=list)

    def __call__(self, event: str, /, **fields: str | float | bool | None) -> None:
        self.events.append((event, fields))

    def named(self, event: str) -> list[dict[str, str | float | bool | None]]:
        """Return the fields of each event of that name."""
        return [fields for name, fields in self.events if name == event]
