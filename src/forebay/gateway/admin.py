"""What the operator asks and orders: what is held by whom, and to read the settings again.

These routes are open to whoever sits at this machine, and to nobody else: the server listens on
loopback, the request names it so, and nothing in it says that it was passed on or that a web
page sent it.  Everybody else shows `server.admin_token`; once there is one, all show it.
"""

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import Struct

from forebay.core.clock import Clock
from forebay.core.errors import Forbidden, Invalid, Unauthenticated
from forebay.core.record import Holding
from forebay.gateway.admin_models import FLEET_PATHS, Fleet
from forebay.gateway.exchange import Exchange
from forebay.gateway.ops import Reply
from forebay.gateway.problems import WrongMethod
from forebay.serve.ledger import Held, Ledger

LEDGER_PATH: Final = "/admin/ledger"
RELOAD_PATH: Final = "/admin/reload"
ADMIN_PATHS: Final[Mapping[str, str]] = {
    LEDGER_PATH: "GET",
    RELOAD_PATH: "POST",
    **FLEET_PATHS,
}
"""Path -> its method."""

_PASSED_ON: Final = frozenset(
    {
        b"cf-connecting-ip",
        b"forwarded",
        b"origin",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-envoy-external-address",
        b"x-forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
    }
)
"""Headers of a request that a proxy passed on, or that a web page sent."""
_OWN_SITES: Final = (b"none", b"same-origin")
"""`Sec-Fetch-Site` of what somebody typed into a browser, and of our own pages."""
_HOST: Final = re.compile(rb"(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::[0-9]*)?", re.IGNORECASE)
_SCHEME: Final = b"bearer "
_HELD_MAX: Final = 200
_TOKEN_MISSING: Final = "This route needs the header 'Authorization: Bearer <server.admin_token>'."
_TOKEN_UNSET: Final = (
    "This route answers only requests from the server's own machine that no proxy passed on."
    " To open it to others, set server.admin_token and send it as a bearer token."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """Who may use `/admin`, and how much it tells."""

    local: bool = False
    """The server listens on loopback only."""
    token: str = ""
    held_max: int = _HELD_MAX
    """Holdings that are listed of each kind; more are only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What became of the settings that changed: key -> new value, or why not."""

    applied: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class InvalidSettings(Invalid):
    """The settings as they are now could not be started with; nothing was changed."""


Reload = Callable[[], Awaitable[Reloaded]]
"""Reads the settings again and applies what can be; raises InvalidSettings."""


class HeldItem(Struct, kw_only=True):
    """One thing that is held."""

    owner: str
    tenant: str
    amount: int
    age_s: float
    expires_in_s: float | None
    """Negative: somebody forgot it."""


class HeldKind(Struct, kw_only=True):
    """What is held of one kind; the oldest are listed."""

    amount: int
    overdue: int
    omitted: int
    holdings: list[HeldItem]


class LedgerPage(Struct, kw_only=True):
    """`received = sum of outcomes + in_flight`, and what is held by whom."""

    balanced: bool
    imbalance: int
    received: int
    in_flight: int
    outcomes: dict[str, int]
    held: dict[str, HeldKind]


class ReloadPage(Struct, kw_only=True):
    """What became of each setting that changed."""

    applied: dict[str, str]
    refused: dict[str, str]


async def _nothing_to_reload() -> Reloaded:
    return Reloaded()


class Admin:
    """Serves `/admin`."""

    def __init__(
        self,
        ledger: Ledger,
        now: Clock,
        *,
        reload: Reload = _nothing_to_reload,
        fleet: Fleet | None = None,
        config: AdminConfig | None = None,
    ) -> None:
        """Tell of `ledger` and `fleet`; order `reload`."""
        self._ledger = ledger
        self._now = now
        self.reload = reload
        self.fleet = fleet
        # Replaced when settings are read again.
        self.config = config or AdminConfig()

    async def serve(self, exchange: Exchange) -> None:
        """Answer one of the routes to whoever may ask; raises ServingError."""
        self._admit(exchange)
        allowed = ADMIN_PATHS[exchange.path]
        if exchange.method != allowed:
            raise WrongMethod(allowed)
        reply = Reply(body=await self._answer(exchange))
        await exchange.answer(reply.status, reply.body, reply.content_type, headers=reply.headers)

    async def _answer(self, exchange: Exchange) -> bytes:
        match exchange.path:
            case path if path == LEDGER_PATH:
                return self._ledger_page()
            case path if path == RELOAD_PATH:
                return await self._reload_page()
            case _ if self.fleet is not None:
                return await self.fleet.answer(exchange)
        raise Invalid("This server has no models to be ordered about.", status=404)

    def _admit(self, exchange: Exchange) -> None:
        """Let the operator in; raises Forbidden or Unauthenticated."""
        config, headers = self.config, exchange.headers
        if config.token:
            given = headers.get(b"authorization", b"")
            bearer = given[: len(_SCHEME)].lower() == _SCHEME
            # In constant time, so that its length says nothing of how much was guessed.
            presented = given[len(_SCHEME) :].strip() if bearer else b""
            if not hmac.compare_digest(presented, config.token.encode()):
                raise Unauthenticated(_TOKEN_MISSING)
            return
        foreign = headers.get(b"sec-fetch-site", b"none") not in _OWN_SITES
        # A proxy that was told nothing else asks in HTTP/1.0, names us and adds no header (nginx).
        bare = exchange.http_version == "1.0"
        passed_on = foreign or bare or not _PASSED_ON.isdisjoint(headers)
        if not config.local or passed_on or not _names_loopback(headers.get(b"host", b"")):
            raise Forbidden(_TOKEN_UNSET)

    def _ledger_page(self) -> bytes:
        now, balance = self._now(), self._ledger.balance()
        page = LedgerPage(
            balanced=balance.imbalance == 0,
            imbalance=balance.imbalance,
            received=balance.received,
            in_flight=balance.in_flight,
            outcomes={outcome.value: count for outcome, count in balance.outcomes.items()},
            held={
                kind: _kind(held, now)
                for kind, held in sorted(self._ledger.held(self.config.held_max).items())
            },
        )
        return msgspec.json.encode(page)

    async def _reload_page(self) -> bytes:
        done = await self.reload()
        page = ReloadPage(applied=dict(done.applied), refused=dict(done.refused))
        return msgspec.json.encode(page)


def _kind(held: Held, now: float) -> HeldKind:
    return HeldKind(
        amount=held.amount,
        overdue=held.overdue,
        omitted=held.count - len(held.holdings),
        holdings=[_item(holding, now) for holding in held.holdings],
    )


def _item(holding: Holding, now: float) -> HeldItem:
    expires = holding.expires
    return HeldItem(
        owner=holding.owner,
        tenant=holding.tenant,
        amount=holding.amount,
        age_s=round(now - holding.since, 3),
        expires_in_s=None if expires is None else round(expires - now, 3),
    )


def _names_loopback(host: bytes) -> bool:
    """Whether a Host header names this machine: a web page's own name can be made to lead here."""
    parts = _HOST.fullmatch(host)
    return parts is not None and is_loopback((parts[1] or parts[2]).decode().lower())


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
