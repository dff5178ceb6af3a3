"""What a conversation has to do with tools: functions that the model may ask for."""

from forebay.core.value import value


@value
class Tool:
    """A function that the model may ask for."""

    name: str
    description: str = ""
    parameters: str = ""
    """The JSON schema of its arguments, as JSON text; empty: not said."""


@value
class ToolCall:
    """A function that the model asked for, in an earlier turn."""

    id: str
    name: str
    arguments: str
    """What the model wrote: JSON text, if it wrote well."""


@value
class ToolTurn:
    """What one turn of a conversation says of tools, beside its text."""

    index: int
    """Which of the messages."""
    calls: tuple[ToolCall, ...] = ()
    answers: str = ""
    """The id of the call whose result this turn is; empty: of none."""
    name: str = ""
    """The function that was called."""


@value
class Tooling:
    """What a conversation has to do with tools."""

    tools: tuple[Tool, ...] = ()
    turns: tuple[ToolTurn, ...] = ()
