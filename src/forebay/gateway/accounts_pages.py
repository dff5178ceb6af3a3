"""Users, tenants and keys as JSON: what `/admin` takes and gives, and `forebay keys --json`."""

import math
import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from forebay.accounts.people import Key, NewKey, Tenant, User, UserChange
from forebay.core.caller import Bounds, Rate, Right, Role
from forebay.core.errors import Invalid
from forebay.policy.rate import parse_rate, shown_rate

if TYPE_CHECKING:
    from forebay.accounts.audit import AuditRow

EXPIRES_IN_S_MAX: Final = 3_650 * 86_400.0


class BoundsItem(Struct, kw_only=True):
    """What one account may use: `100/minute`; null: what the configuration says."""

    requests: str | None = None
    tokens: str | None = None
    concurrent: int | None = None


class TenantItem(Struct, kw_only=True):
    """Who is limited and billed."""

    name: str
    disabled: bool
    limits: BoundsItem
    created_at: float
    """Unix seconds, as every moment here."""


class UserItem(Struct, kw_only=True):
    """A person who logs in, or a service account: a user without a password."""

    name: str
    tenant: str
    role: Role
    disabled: bool
    has_password: bool
    limits: BoundsItem
    created_at: float


class KeyItem(Struct, kw_only=True):
    """An API key; its text is in the answer that made it, and nowhere else."""

    id: str
    user: str
    name: str
    last4: str
    scopes: list[Right]
    models: list[str] | None
    """Null: all."""
    limits: BoundsItem
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    old_last4: str | None = None
    """Of the text that a rotation replaced, which opens the same until `old_ends_at`."""
    old_ends_at: float | None = None
    key: str | UnsetType = UNSET
    """The key itself, shown this once."""


class UserOrder(Struct, kw_only=True, forbid_unknown_fields=True):
    """A user to be made."""

    name: str
    role: Role = Role.USER
    tenant: str = ""
    """Empty: one of the user's own name."""
    password: str | None = None
    """Null: a service account, which shows keys only."""
    limits: BoundsItem = msgspec.field(default_factory=BoundsItem)


class UserUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to be different about a user."""

    name: str
    role: Role | None = None
    tenant: str | None = None
    password: str | None = None
    disabled: bool | None = None
    limits: BoundsItem | None = None


class TenantUpdate(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to be different about a tenant; it was made with its first user."""

    name: str
    disabled: bool | None = None
    limits: BoundsItem | None = None


class KeyOrder(Struct, kw_only=True, forbid_unknown_fields=True):
    """A key to be made."""

    user: str
    name: str = ""
    scopes: list[Right] | None = None
    """Null: all of its user's rights but `admin`."""
    models: list[str] | None = None
    expires_in_s: float | None = None
    """Null: it does not end."""
    limits: BoundsItem = msgspec.field(default_factory=BoundsItem)


class KeyName(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which key is meant."""

    id: str


class KeyRotation(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which key gets a new text, and how long the old one opens the same."""

    id: str
    overlap_s: float = 86_400.0


class Page(Struct, kw_only=True):
    """Part of a list; `next` is the `after` of the next part, null at the end."""

    users: list[UserItem] | UnsetType = UNSET
    tenants: list[TenantItem] | UnsetType = UNSET
    keys: list[KeyItem] | UnsetType = UNSET
    next: str | None = None


class AuditItem(Struct, kw_only=True):
    """One line of the audit log."""

    id: int
    at: float
    action: str
    actor: str
    target: str
    outcome: str
    address: str
    request_id: str
    details: dict[str, str | int | float | bool | None]


class AuditPage(Struct, kw_only=True):
    """Part of the audit log, the latest first; `next` is the `before` of the next part."""

    events: list[AuditItem]
    next: str | None = None


def audit_item(row: "AuditRow") -> AuditItem:
    """Write a line of the audit log."""
    return AuditItem(
        id=row.id,
        at=row.at,
        action=row.action,
        actor=row.actor,
        target=row.target,
        outcome=row.outcome,
        address=row.address,
        request_id=row.request_id,
        details=dict(row.details),
    )


def bounds_of(item: BoundsItem) -> Bounds:
    """Read limits; raises Invalid that names the field."""
    return Bounds(
        requests=_rate(item.requests, "limits.requests"),
        tokens=_rate(item.tokens, "limits.tokens"),
        concurrent=item.concurrent,
    )


def _rate(text: str | None, param: str) -> Rate | None:
    try:
        return parse_rate(text or "")
    except ValueError as error:
        raise Invalid(f"{param}: {error}.", param=param) from None


def bounds_item(bounds: Bounds) -> BoundsItem:
    """Write limits."""
    return BoundsItem(
        requests=None if bounds.requests is None else shown_rate(bounds.requests),
        tokens=None if bounds.tokens is None else shown_rate(bounds.tokens),
        concurrent=bounds.concurrent,
    )


def user_item(user: User) -> UserItem:
    """Write a user."""
    return UserItem(
        name=user.name,
        tenant=user.tenant,
        role=user.role,
        disabled=user.disabled,
        has_password=user.has_password,
        limits=bounds_item(user.bounds),
        created_at=user.created,
    )


def tenant_item(tenant: Tenant) -> TenantItem:
    """Write a tenant."""
    return TenantItem(
        name=tenant.name,
        disabled=tenant.disabled,
        limits=bounds_item(tenant.bounds),
        created_at=tenant.created,
    )


def key_item(key: Key, text: str | UnsetType = UNSET) -> KeyItem:
    """Write a key; with its `text` only in the answer that made it."""
    return KeyItem(
        id=key.id,
        user=key.user,
        name=key.name,
        last4=key.last4,
        scopes=sorted(key.scopes),
        models=None if key.models is None else sorted(key.models),
        limits=bounds_item(key.bounds),
        created_at=key.created,
        expires_at=None if math.isinf(key.expires) else key.expires,
        revoked_at=key.revoked,
        last_used_at=key.last_used,
        old_last4=key.old_last4,
        old_ends_at=key.old_ends,
        key=text,
    )


def new_key(order: KeyOrder) -> NewKey:
    """Read the order of a key; raises Invalid that names the field."""
    expires_in_s = order.expires_in_s
    if expires_in_s is not None and not 0 < expires_in_s <= EXPIRES_IN_S_MAX:
        limit = f"more than 0 and at most {EXPIRES_IN_S_MAX:.0f} seconds"
        raise Invalid(
            f"expires_in_s: expected {limit}; leave it out for no end.", param="expires_in_s"
        )
    return NewKey(
        user=order.user,
        name=order.name,
        scopes=None if order.scopes is None else frozenset(order.scopes),
        models=None if order.models is None else frozenset(order.models),
        expires=math.inf if expires_in_s is None else time.time() + expires_in_s,
        bounds=bounds_of(order.limits),
    )


def user_change(order: UserUpdate) -> UserChange:
    """Read what is to be different about a user; raises Invalid that names the field."""
    return UserChange(
        tenant=order.tenant,
        role=order.role,
        disabled=order.disabled,
        bounds=None if order.limits is None else bounds_of(order.limits),
        password=order.password,
    )
