"""A configuration value that explains itself: default, help, bounds, unit (in its name)."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

_KNOB: Final = "forebay.knob"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """What a configuration field says of itself beside its type and default."""

    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    secret: bool = False
    live: bool = False
    """A running server takes a new value, without a restart."""


def knob(  # noqa: PLR0913 - it is the one place where a knob's facts are listed
    default: Any,  # noqa: ANN401 - a field's default has the field's type
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    live: bool = False,
) -> Any:  # noqa: ANN401 - like dataclasses.field
    """Declare a configuration field with its help text and bounds (inclusive).

    Numbers need both bounds: everything is bounded.  `live`: `forebay.app` applies a new value
    to a running server.
    """
    assert help, "a knob explains itself"
    assert isinstance(default, bool | str | None) or (minimum is not None and maximum is not None)
    facts = Knob(
        help=help, minimum=minimum, maximum=maximum, choices=choices, secret=secret, live=live
    )
    return dataclasses.field(default=default, repr=not secret, metadata={_KNOB: facts})


def knobs(config: type) -> Iterator[tuple[dataclasses.Field[Any], Knob]]:
    """Yield each knob field of a configuration dataclass with its facts, in order."""
    for field in dataclasses.fields(config):
        if _KNOB in field.metadata:
            yield field, field.metadata[_KNOB]
