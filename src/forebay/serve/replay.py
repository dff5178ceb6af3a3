"""One generation for equal wishes: keyed, coalesced, or remembered."""

from collections.abc import Callable

from forebay.core.errors import Invalid
from forebay.core.request import Events, Request

Generate = Callable[[Request], Events]


class Replay:
    """Decides whether a request's answer is made, joined or read again."""

    def attach(self, request: Request, generate: Generate) -> Events:
        """Return the events that answer a request; closing them lets go of its generation."""
        return generate(request)

    async def reopen(self, completion_id: str, tenant: str) -> Events:
        """Return the events of a keyed answer of this tenant, from the first."""
        message = "No stream of that name is kept here."
        raise Invalid(message, status=404)
        yield  # a generator, so that it raises when it is read
