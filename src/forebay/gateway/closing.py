"""Events are closed however their reading ends."""

from contextlib import suppress
from types import TracebackType

from forebay.core.request import Events
from forebay.gateway.exchange import ClientGone


class Reading:
    """Closes events however their reading ends, and tells them of a defect in the reader.

    `aclosing` alone would have a completion that we failed to encode recorded as one that its
    client gave up.
    """

    __slots__ = ("_events",)

    def __init__(self, events: Events) -> None:
        """Close these; they are started by whoever reads them."""
        self._events = events

    async def __aenter__(self) -> None:
        """Enter."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the events."""
        if isinstance(error, Exception) and not isinstance(error, ClientGone):
            # Events that raised it themselves have ended, and say so instead of taking it.
            with suppress(type(error), StopAsyncIteration):
                await self._events.athrow(error)
        await self._events.aclose()
