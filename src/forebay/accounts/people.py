"""Tenants, users and keys as values, and the rules that their names and limits keep.

Whoever asks wrongly gets `core.errors.Invalid`: it names the field, and what to write instead.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from forebay.core.caller import ANONYMOUS, RIGHTS, UNBOUNDED, Bounds, Rate, Right, Role
from forebay.core.errors import Invalid

NAME_MAX: Final = 128
LABEL_MAX: Final = 100
MODELS_MAX: Final = 100
EXTERNAL: Final = "oidc:"
"""Begins the names of users that an OpenID issuer vouches for; none of them has a password here."""
_NAME: Final = re.compile(rf"({EXTERNAL})?[A-Za-z0-9][A-Za-z0-9._@+|~-]*")
"""Of users and tenants: mail addresses and the subjects of OpenID issuers fit."""
_SHOWN: Final = 40
_AMOUNT_MAX: Final = 10**15


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Who is limited and billed."""

    name: str
    bounds: Bounds = UNBOUNDED
    disabled: bool = False
    created: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person who logs in, or a service account: a user without a password."""

    name: str
    tenant: str
    role: Role
    bounds: Bounds = UNBOUNDED
    disabled: bool = False
    created: float = 0.0
    has_password: bool = False
    weak_password: bool = False
    """It was let in by --dev."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserChange:
    """What is to be different about a user; None: it stays."""

    tenant: str | None = None
    role: Role | None = None
    disabled: bool | None = None
    bounds: Bounds | None = None
    password: str | None = None
    """Empty: no password opens it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What a key is to be."""

    user: str
    name: str = ""
    """For people: where it is used."""
    scopes: frozenset[Right] | None = None
    """Rights of its user's; None: all of them but `admin`."""
    models: frozenset[str] | None = None
    """Names of models and routes; None: all."""
    expires: float = math.inf
    bounds: Bounds = UNBOUNDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key, without what proves it."""

    id: str
    user: str
    name: str
    last4: str
    scopes: frozenset[Right]
    models: frozenset[str] | None
    bounds: Bounds
    created: float
    expires: float
    revoked: float | None
    last_used: float | None
    old_last4: str | None = None
    """Of the one that a rotation replaced."""
    old_ends: float | None = None

    def active(self, now: float) -> bool:
        """Whether it opens anything at `now`, as far as it is its own doing."""
        return self.revoked is None and now < self.expires


def checked_name(name: str, param: str) -> str:
    """Return the name of a user or a tenant, or raise Invalid."""
    if not is_name(name):
        raise Invalid(
            f"{param} must be 1 to {NAME_MAX} letters, digits and ._@+|~- and begin with a "
            f"letter or a digit; found {_shown(name)}.",
            param=param,
        )
    if param == "tenant" and name == ANONYMOUS:
        raise Invalid(f"No tenant may be called {ANONYMOUS}; it stands for nobody.", param=param)
    return name


def is_name(name: str) -> bool:
    """Whether a user or a tenant could have this name."""
    return len(name) <= NAME_MAX and _NAME.fullmatch(name) is not None


def checked_label(label: str) -> str:
    """Return a key's name for people, or raise Invalid."""
    if len(label) > LABEL_MAX or not label.isprintable():
        raise Invalid(
            f"name must be {LABEL_MAX} printable characters at most; found {_shown(label)}.",
            param="name",
        )
    return label


def checked_models(models: Collection[str] | None) -> frozenset[str] | None:
    """Return the models of a key, or raise Invalid."""
    if models is None:
        return None
    if not 0 < len(models) <= MODELS_MAX:
        raise Invalid(
            f"models must name 1 to {MODELS_MAX} models, or be left out for all; found "
            f"{len(models)}.",
            param="models",
        )
    for model in models:
        if not 0 < len(model) <= NAME_MAX or not model.isprintable():
            raise Invalid(
                f"models must be names of 1 to {NAME_MAX} printable characters; found "
                f"{_shown(model)}.",
                param="models",
            )
    return frozenset(models)


def checked_scopes(scopes: frozenset[Right] | None, role: Role) -> frozenset[Right]:
    """Return the scopes of a key whose user has `role`, or raise Invalid."""
    rights = RIGHTS[role]
    if scopes is None:
        return rights - {Right.ADMIN} or rights
    beyond = sorted(scopes - rights)
    if beyond or not scopes:
        found = ", ".join(beyond) or "none"
        raise Invalid(
            f"scopes must be rights of the user, whose role is {role}: {', '.join(sorted(rights))};"
            f" found {found}.",
            param="scopes",
        )
    return scopes


def checked_bounds(bounds: Bounds) -> Bounds:
    """Return bounds, or raise Invalid if no account can have them."""
    for field, rate in (("requests", bounds.requests), ("tokens", bounds.tokens)):
        if rate is not None and not (
            0 < rate.amount <= _AMOUNT_MAX and 0 < rate.period_s < math.inf
        ):
            raise Invalid(f"{field} must be a number of 1 or more per time.", param=field)
    if bounds.concurrent is not None and not 0 < bounds.concurrent < 2**31:
        raise Invalid("concurrent must be a whole number of 1 or more.", param="concurrent")
    return bounds


def bounds_row(bounds: Bounds) -> dict[str, int | float | None]:
    """Return bounds as columns."""
    requests, tokens = bounds.requests, bounds.tokens
    return {
        "requests_amount": requests.amount if requests else None,
        "requests_period_s": requests.period_s if requests else None,
        "tokens_amount": tokens.amount if tokens else None,
        "tokens_period_s": tokens.period_s if tokens else None,
        "concurrent": bounds.concurrent,
    }


def bounds_of(row: Mapping[Any, Any], prefix: str = "") -> Bounds:
    """Return the bounds in a row's columns."""
    if (
        row[f"{prefix}requests_amount"] is None
        and row[f"{prefix}tokens_amount"] is None
        and row[f"{prefix}concurrent"] is None
    ):
        return UNBOUNDED
    return Bounds(
        requests=_rate(row, f"{prefix}requests"),
        tokens=_rate(row, f"{prefix}tokens"),
        concurrent=row[f"{prefix}concurrent"],
    )


def _rate(row: Mapping[Any, Any], name: str) -> Rate | None:
    amount, period_s = row[f"{name}_amount"], row[f"{name}_period_s"]
    return None if amount is None or not period_s else Rate(amount=amount, period_s=period_s)


def _shown(text: str) -> str:
    """Return the beginning of what somebody wrote, harmless to print."""
    return ascii(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
