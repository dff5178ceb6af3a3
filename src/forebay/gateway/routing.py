"""Which route serves what, and what it asks of its caller: the one table.

A path is looked up as it is.  Whoever finds nothing is told so only if it may know what there is.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from forebay.accounts.audit_event import Action
from forebay.core.caller import Right
from forebay.core.errors import Invalid
from forebay.core.request import Route
from forebay.gateway.exchange import Exchange
from forebay.gateway.ops import Reply
from forebay.gateway.problems import WrongMethod
from forebay.serve.limits import Probe

Handler = Callable[[Exchange], Awaitable[None]]
Page = Callable[[Exchange], Reply]

READS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A route: what serves it, by which method, and the right that it asks for."""

    serve: Handler
    methods: tuple[str, ...]
    """None: whatever the method, the answer is the same."""
    right: Right | None
    """None: it is open to all, or to everybody who is known."""
    known: bool = False
    """Whoever shows a credential may ask it, whatever its rights."""
    label: Route = Route.PROBE
    action: Action | None = None
    """What the audit log calls it, once it was done."""
    probe: Probe | None = None
    """What it is to whoever shows no credential, and may ask it only so often."""
    opens: bool = False
    """Each call is one request of the ledger's: pages are none, and batches are several."""

    def check(self, method: str) -> None:
        """Raise WrongMethod, with those that are right."""
        if self.methods and method not in self.methods:
            raise WrongMethod(", ".join(self.methods))


def posted(serve: Handler, label: Route, *, opens: bool = True) -> Endpoint:
    """Return a route by which tokens, or vectors, are made."""
    return Endpoint(serve=serve, methods=("POST",), right=Right.INFER, label=label, opens=opens)


def page(make: Page, right: Right | None, probe: Probe | None = None) -> Endpoint:
    """Return a route whose answer is made without waiting."""

    async def serve(exchange: Exchange) -> None:
        reply = make(exchange)
        await exchange.answer(reply.status, reply.body, reply.content_type, headers=reply.headers)

    return Endpoint(serve=serve, methods=READS, right=right, probe=probe)


async def _find_nothing(_: Exchange) -> None:
    raise Invalid("There is nothing at this path; GET /docs lists what is.", status=404)


NOTHING: Final = Endpoint(serve=_find_nothing, methods=(), right=Right.READ, label=Route.UNMATCHED)


class PathTaken(Exception):
    """A setting wants a path that another route has."""

    def __init__(self, path: str) -> None:
        """Name the path."""
        super().__init__(f"{path} is the path of something else")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Every route."""

    exact: Mapping[str, Endpoint]
    """By path."""
    below: Mapping[str, Endpoint]
    """By the beginning of a path: the rest is a name, which may hold slashes."""

    def find(self, path: str) -> Endpoint:
        """Return the route of a path, or the one that says that there is none."""
        endpoint = self.exact.get(path)
        if endpoint is None:
            for beginning, found in self.below.items():
                if path.startswith(beginning):
                    return found
            return NOTHING
        return endpoint
