"""One generation for equal wishes: keyed, coalesced, or remembered."""

from collections.abc import Callable

from forebay.core.request import Events, Request

Generate = Callable[[Request], Events]


class Replay:
    """Decides whether a request's answer is made, joined or read again."""

    def attach(self, request: Request, generate: Generate) -> Events:
        """Return the events that answer a request; closing them lets go of its generation."""
        return generate(request)
