"""What can be wrong with the configuration of tokens, and the readings of its texts.

This module loads no library of tokens: the settings are checked where none is asked for, too.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from forebay.accounts.people import is_name
from forebay.accounts.token_config import OidcConfig, TokensConfig
from forebay.core.caller import ANONYMOUS, Role
from forebay.policy.addresses import is_loopback

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures by a private key.  No HS: whoever knows the public key could sign."""
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


def misfits(tokens: TokensConfig, oidc: OidcConfig) -> Iterator[tuple[str, str]]:
    """Yield each key that cannot be as it is, and what is wrong with it."""
    for name in ("issuer", "audience"):
        if not getattr(tokens, name):
            yield f"tokens.{name}", f"tokens.{name} must not be empty."
    if oidc.issuer == tokens.issuer:
        yield "oidc.issuer", "oidc.issuer must differ from tokens.issuer: it tells tokens apart."
    if oidc.issuer:
        for name, wrong in _misfits_of_issuer(oidc):
            yield f"oidc.{name}", f"oidc.{name} {wrong}."


def _misfits_of_issuer(oidc: OidcConfig) -> Iterator[tuple[str, str]]:
    for name in ("audience", "jwks_url", "user_claim", "types"):
        if not words(getattr(oidc, name)):
            yield name, "must be set where oidc.issuer is"
    if oidc.jwks_url and (wrong := _wrong_address(oidc.jwks_url)):
        yield "jwks_url", wrong
    algorithms = set(words(oidc.algorithms))
    if not algorithms or not algorithms <= ALGORITHMS:
        yield "algorithms", f"must be some of {', '.join(sorted(ALGORITHMS))}, by comma"
    if not is_name(oidc.tenant) or oidc.tenant == ANONYMOUS:
        yield "tenant", "must be the name of a tenant"
    try:
        roles_of(oidc.roles)
    except ValueError as error:
        yield "roles", str(error)
    if bool(oidc.role_claim) != bool(words(oidc.roles)):
        yield "roles", "and oidc.role_claim go together: set both, or none of them"


def words(text: str) -> tuple[str, ...]:
    """Return what stands between the commas of a text."""
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def roles_of(text: str) -> Mapping[str, Role]:
    """Return role there -> role here, the first that counts first; raises ValueError."""
    found = {}
    for word in words(text):
        there, equals, here = (part.strip() for part in word.rpartition("="))
        if not there or not equals or here not in set(Role):
            roles = ", ".join(Role)
            raise ValueError(f"must be roles as theirs=ours, by comma, where ours is {roles}")
        found[there] = Role(here)
    return found


def address_of(url: str) -> tuple[SplitResult, int]:
    """Return an address that `misfits` finds nothing wrong with, and its port."""
    parts = urlsplit(url)
    return parts, parts.port or _DEFAULT_PORTS[parts.scheme]


def _wrong_address(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "cannot be read as an address"
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not url.isprintable():
        return "must be an address as https://host/path"
    if " " in url or not url.isascii() or port == 0:
        return "must be an address as https://host/path"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must hold neither a password nor a fragment"
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return "must be https: who changes the keys on their way decides who is let in"
    return None


def is_number(value: object) -> bool:
    """Whether a claim is a moment: a finite number, and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
