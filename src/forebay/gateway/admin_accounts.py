"""What the administrator asks and orders of users, tenants and keys."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from forebay.accounts.audit_event import Action, Detail
from forebay.core.caller import Right
from forebay.gateway.accounts_pages import (
    AuditPage,
    KeyName,
    KeyOrder,
    KeyRotation,
    Page,
    TenantUpdate,
    UserOrder,
    UserUpdate,
    audit_item,
    bounds_of,
    key_item,
    new_key,
    tenant_item,
    user_change,
    user_item,
)
from forebay.gateway.exchange import Exchange
from forebay.gateway.problems import JSON
from forebay.gateway.querying import query_of, whole
from forebay.gateway.reading import Reader
from forebay.gateway.routing import Endpoint
from forebay.serve.clerks import Clerks

if TYPE_CHECKING:
    from forebay.accounts.audit import Audit
    from forebay.accounts.directory import Directory


class Notes(Protocol):
    """Writes one line of the audit log."""

    def __call__(
        self, exchange: Exchange, action: Action, target: str, /, **details: Detail
    ) -> None:
        """Note what a caller has done to whom; never blocks, never raises."""


USERS_PATH: Final = "/admin/users"
UPDATE_USER_PATH: Final = "/admin/users/update"
TENANTS_PATH: Final = "/admin/tenants"
UPDATE_TENANT_PATH: Final = "/admin/tenants/update"
KEYS_PATH: Final = "/admin/keys"
REVOKE_PATH: Final = "/admin/keys/revoke"
ROTATE_PATH: Final = "/admin/keys/rotate"
AUDIT_PATH: Final = "/admin/audit"
_PAGE: Final = ("after", "count")
_COUNT: Final = 100
_COUNT_MAX: Final = 1_000
_ROWS_MAX: Final = 10**12
_USER: Final = Reader(UserOrder)
_USER_UPDATE: Final = Reader(UserUpdate)
_TENANT_UPDATE: Final = Reader(TenantUpdate)
_KEY: Final = Reader(KeyOrder)
_KEY_NAME: Final = Reader(KeyName)
_ROTATION: Final = Reader(KeyRotation)


class AccountsAdmin:
    """Serves `/admin/users`, `/admin/tenants` and `/admin/keys`."""

    def __init__(
        self,
        directory: "Directory",
        audit: "Audit",
        clerks: Clerks,
        *,
        changed: Callable[[], None],
        note: Notes,
    ) -> None:
        """Ask `directory` by `clerks`; `changed` is told after each change, and `note` of each."""
        self._directory = directory
        self._audit = audit
        self._clerks = clerks
        self._changed = changed
        self._note = note

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return the routes, by path."""
        both, reads, orders = ("GET", "POST"), ("GET",), ("POST",)
        return {
            USERS_PATH: _endpoint(self._users, both),
            UPDATE_USER_PATH: _endpoint(self._update_user, orders),
            TENANTS_PATH: _endpoint(self._tenants, reads),
            UPDATE_TENANT_PATH: _endpoint(self._update_tenant, orders),
            KEYS_PATH: _endpoint(self._keys, both),
            REVOKE_PATH: _endpoint(self._revoke, orders),
            ROTATE_PATH: _endpoint(self._rotate, orders),
            AUDIT_PATH: _endpoint(self._audit_page, reads),
        }

    async def _users(self, exchange: Exchange) -> None:
        if exchange.method == "POST":
            await self._create_user(exchange)
            return
        after, count = _page(exchange, _PAGE)
        found = await self._clerks.answer(lambda: self._directory.users(after, count))
        more = found[-1].name if len(found) == count else None
        await _answer(exchange, Page(users=[user_item(each) for each in found], next=more))

    async def _create_user(self, exchange: Exchange) -> None:
        order = _USER.read(await exchange.body())
        bounds = bounds_of(order.limits)
        user = await self._clerks.answer(
            lambda: self._directory.create_user(
                order.name,
                role=order.role,
                tenant=order.tenant,
                password=order.password,
                bounds=bounds,
            )
        )
        self._note(exchange, Action.USER_CREATED, user.name, role=user.role, tenant=user.tenant)
        await _answer(exchange, user_item(user))

    async def _update_user(self, exchange: Exchange) -> None:
        order = _USER_UPDATE.read(await exchange.body())
        change = user_change(order)
        user = await self._clerks.answer(lambda: self._directory.change_user(order.name, change))
        self._changed()
        self._note(exchange, Action.USER_CHANGED, user.name, **_fields(order))
        await _answer(exchange, user_item(user))

    async def _tenants(self, exchange: Exchange) -> None:
        after, count = _page(exchange, _PAGE)
        found = await self._clerks.answer(lambda: self._directory.tenants(after, count))
        more = found[-1].name if len(found) == count else None
        await _answer(exchange, Page(tenants=[tenant_item(each) for each in found], next=more))

    async def _update_tenant(self, exchange: Exchange) -> None:
        order = _TENANT_UPDATE.read(await exchange.body())
        bounds = None if order.limits is None else bounds_of(order.limits)
        tenant = await self._clerks.answer(
            lambda: self._directory.change_tenant(
                order.name, bounds=bounds, disabled=order.disabled
            )
        )
        self._changed()
        self._note(exchange, Action.TENANT_CHANGED, tenant.name, **_fields(order))
        await _answer(exchange, tenant_item(tenant))

    async def _keys(self, exchange: Exchange) -> None:
        if exchange.method == "POST":
            await self._create_key(exchange)
            return
        user = query_of(exchange.query, (*_PAGE, "user")).get("user")
        after, count = _page(exchange, (*_PAGE, "user"))
        found = await self._clerks.answer(lambda: self._directory.keys(user, after, count=count))
        more = found[-1].id if len(found) == count else None
        await _answer(exchange, Page(keys=[key_item(each) for each in found], next=more))

    async def _create_key(self, exchange: Exchange) -> None:
        wish = new_key(_KEY.read(await exchange.body()))
        key, text = await self._clerks.answer(lambda: self._directory.create_key(wish))
        self._note(
            exchange, Action.KEY_CREATED, key.id, user=key.user, scopes=" ".join(sorted(key.scopes))
        )
        await _answer(exchange, key_item(key, text))

    async def _revoke(self, exchange: Exchange) -> None:
        order = _KEY_NAME.read(await exchange.body())
        key = await self._clerks.answer(lambda: self._directory.revoke_key(order.id))
        self._changed()
        self._note(exchange, Action.KEY_REVOKED, key.id, user=key.user)
        await _answer(exchange, key_item(key))

    async def _rotate(self, exchange: Exchange) -> None:
        order = _ROTATION.read(await exchange.body())
        key, text = await self._clerks.answer(
            lambda: self._directory.rotate_key(order.id, order.overlap_s)
        )
        self._changed()
        self._note(exchange, Action.KEY_ROTATED, key.id, user=key.user, overlap_s=order.overlap_s)
        await _answer(exchange, key_item(key, text))

    async def _audit_page(self, exchange: Exchange) -> None:
        query = query_of(exchange.query, ("actor", "before", "count"))
        count = whole(query, "count", default=_COUNT, most=_COUNT_MAX)
        before = whole(query, "before", default=_ROWS_MAX, most=_ROWS_MAX)
        actor = query.get("actor")
        rows = await self._clerks.answer(lambda: self._audit.page(before, count, actor=actor))
        more = str(rows[-1].id) if len(rows) == count else None
        await _answer(exchange, AuditPage(events=[audit_item(row) for row in rows], next=more))


def _endpoint(serve: Callable[[Exchange], Awaitable[None]], methods: tuple[str, ...]) -> Endpoint:
    return Endpoint(serve=serve, methods=methods, right=Right.ADMIN)


def _page(exchange: Exchange, names: tuple[str, ...]) -> tuple[str, int]:
    query = query_of(exchange.query, names)
    count = whole(query, "count", default=_COUNT, most=_COUNT_MAX)
    return query.get("after", ""), count


def _fields(order: msgspec.Struct) -> dict[str, str]:
    """Return which fields an order sets; never what a password is."""
    given = [name for name in order.__struct_fields__ if getattr(order, name) is not None]
    return {"fields": " ".join(name for name in given if name != "name")}


async def _answer(exchange: Exchange, page: msgspec.Struct) -> None:
    await exchange.answer(200, msgspec.json.encode(page), JSON)
