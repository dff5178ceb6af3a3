"""What the operator asks and orders: what is held by whom, and to read the settings again."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import Struct

from forebay.accounts.audit_event import Action
from forebay.core.clock import Clock
from forebay.core.errors import Invalid
from forebay.core.record import Holding
from forebay.gateway.admin_models import FLEET_ACTIONS, FLEET_PATHS, Fleet
from forebay.gateway.exchange import Exchange
from forebay.gateway.ops import Reply
from forebay.serve.ledger import Held, Ledger

LEDGER_PATH: Final = "/admin/ledger"
RELOAD_PATH: Final = "/admin/reload"
ADMIN_PATHS: Final[Mapping[str, str]] = {
    LEDGER_PATH: "GET",
    RELOAD_PATH: "POST",
    **FLEET_PATHS,
}
"""Path -> its method."""
ADMIN_ACTIONS: Final[Mapping[str, Action]] = {RELOAD_PATH: Action.SETTINGS_READ, **FLEET_ACTIONS}
"""Path -> what the audit log calls it; those that only tell are not in it."""

_HELD_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """How much `/admin` tells."""

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
        """Answer one of the routes; raises ServingError."""
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
