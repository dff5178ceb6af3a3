"""Who asks, what it may do, and who pays: found once per request, before anything is done.

A *right* is what a route asks of its caller, a *role* is a set of rights that a user has, and a
key's *scopes* are a choice of its user's rights.  An *account* is one of those on whom a request
is charged: its key, its user and its tenant each have limits and budgets of their own.
"""

import enum
import math
from collections.abc import Mapping
from typing import Final

from forebay.core.value import value

ANONYMOUS: Final = "anonymous"
"""The tenant of whoever shows no credential."""


class Right(enum.StrEnum):
    """What a route asks of whoever calls it; the names are the scopes of API keys."""

    INFER = "infer"
    """Make tokens, and read on what was made."""
    READ = "read"
    """See which models there are and how they do; the pages for people."""
    USAGE = "usage"
    """See what oneself has used."""
    METRICS = "metrics"
    """Scrape `/metrics`."""
    OPERATE = "operate"
    """Load and drain models, move shares, read the ledger and the settings again."""
    ADMIN = "admin"
    """Make users, keys and budgets; read the audit log and everybody's usage."""


class Role(enum.StrEnum):
    """What a user is to the server."""

    ADMIN = "admin"
    OPERATOR = "operator"
    USER = "user"
    METRICS_READER = "metrics-reader"


_USER: Final = frozenset({Right.INFER, Right.READ, Right.USAGE})
RIGHTS: Final[Mapping[Role, frozenset[Right]]] = {
    Role.ADMIN: frozenset(Right),
    Role.OPERATOR: _USER | {Right.METRICS, Right.OPERATE},
    Role.USER: _USER,
    Role.METRICS_READER: frozenset({Right.METRICS}),
}
"""Role -> its rights."""


class Level(enum.StrEnum):
    """What kind of account a request is charged to."""

    KEY = "key"
    USER = "user"
    TENANT = "tenant"


@value
class Rate:
    """So many per time: `5/minute`.  The same number may come at once (the burst)."""

    amount: int
    """1 or more."""
    period_s: float
    """More than 0."""


@value
class Bounds:
    """What one account may use; None: no limit of its own."""

    requests: Rate | None = None
    tokens: Rate | None = None
    """Prompt and completion together."""
    concurrent: int | None = None
    """Requests that are made at once, those that wait for a place included."""


UNBOUNDED: Final = Bounds()


@value
class Account:
    """One of those on whom a request is charged."""

    level: Level
    id: str
    """A key's id, a user's name, a tenant's name."""
    bounds: Bounds = UNBOUNDED
    budgeted: bool = False
    """It has a budget in tokens or money: whatever it spends is reserved first."""


@value
class Caller:
    """Who asks.  The default is whoever shows nothing where nothing is asked for."""

    tenant: str = ANONYMOUS
    """Whose share, caches, idempotency keys and streams these are."""
    user: str = ""
    """Empty: nobody is known by name."""
    key_id: str = ""
    """The API key that was shown; empty: none, or a token."""
    token_id: str = ""
    """The `jti` of the token that was shown."""
    rights: frozenset[Right] = frozenset()
    models: frozenset[str] | None = None
    """Names of models and routes that it may ask; None: all of them."""
    accounts: tuple[Account, ...] = ()
    expires: float = math.inf
    """When its credential ends, Unix seconds."""

    def may(self, right: Right) -> bool:
        """Whether it has a right."""
        return right in self.rights

    def may_ask(self, *names: str) -> bool:
        """Whether it may ask a model that goes by any of these names."""
        return self.models is None or not self.models.isdisjoint(names)


NOBODY: Final = Caller()
