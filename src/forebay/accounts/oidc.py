"""Tokens of another issuer (OpenID Connect), verified with its public keys.

As of ours (`tokens.py`), nothing in a token chooses how it is verified: the key that it names
says which signatures it is for, and those are signatures by private keys only, so that no public
key is ever taken for a secret.  `jku`, `x5u`, `x5c` and `jwk` are not read; `crit` is refused.
Its user is `oidc:<name>` here, so that nobody becomes a user of ours by being called like one.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from jwt import PyJWS
from jwt.exceptions import PyJWTError
from msgspec import UNSET, Struct

from forebay.accounts.jwks import Jwks, PublicKey
from forebay.accounts.people import EXTERNAL, is_name
from forebay.accounts.token_config import OidcConfig
from forebay.accounts.token_rules import is_number, roles_of, words
from forebay.accounts.tokens import (
    Claims,
    InvalidToken,
    TokenFault,
    check_shape,
    check_times,
    part,
)
from forebay.core.caller import ANONYMOUS, Role

TOKEN_CHARACTERS_MAX: Final = 8_192
_KID_CHARACTERS_MAX: Final = 256
_ID_CHARACTERS_MAX: Final = 256
_OTHER_PURPOSES: Final = ("cnf", "events")
"""Claims of tokens that need a proof with them, and of those that say that somebody logged out."""


class _Header(Struct):
    alg: str
    kid: str
    typ: str = "JWT"
    crit: msgspec.Raw | msgspec.UnsetType = UNSET
    b64: msgspec.Raw | msgspec.UnsetType = UNSET
    zip: msgspec.Raw | msgspec.UnsetType = UNSET


_HEADER: Final = msgspec.json.Decoder(_Header)
_CLAIMS: Final = msgspec.json.Decoder(dict[str, Any])


class Oidc:
    """Verifies the tokens of one issuer.  For any number of threads."""

    def __init__(self, keys: Jwks, config: OidcConfig) -> None:
        """Verify with `keys`; `config` is one that `token_rules.misfits` finds nothing wrong in."""
        self._keys = keys
        self._config = config
        self._types = frozenset(word.lower() for word in words(config.types))
        self._roles = roles_of(config.roles)
        self._jws = PyJWS(algorithms=words(config.algorithms))

    @property
    def issuer(self) -> str:
        """What its tokens say in `iss`."""
        return self._config.issuer

    def verify(self, token: str, now: float) -> Claims:
        """Return what a token says; raises InvalidToken, or AccountsAway without its keys."""
        header = _header(token)
        if header.typ.lower().removeprefix("application/") not in self._types:
            raise InvalidToken(TokenFault.TYPE)
        if header.alg not in words(self._config.algorithms):
            raise InvalidToken(TokenFault.ALGORITHM)
        known = 0 < len(header.kid) <= _KID_CHARACTERS_MAX
        key = self._keys.find(header.kid) if known else None
        if key is None:
            raise InvalidToken(TokenFault.KEY)
        if header.alg not in key.algorithms:
            raise InvalidToken(TokenFault.ALGORITHM)
        claims = self._claims(token, key, header.alg)
        return self._checked(claims, now)

    def _claims(self, token: str, key: PublicKey, algorithm: str) -> dict[str, Any]:
        try:
            text = self._jws.decode(token, key.key, algorithms=[algorithm])
        except PyJWTError:
            raise InvalidToken(TokenFault.SIGNATURE) from None
        try:
            return _CLAIMS.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidToken(TokenFault.CLAIMS) from None

    def _checked(self, claims: Mapping[str, Any], now: float) -> Claims:
        config = self._config
        if claims.get("iss") != config.issuer:
            raise InvalidToken(TokenFault.ISSUER)
        audience = claims.get("aud")
        if config.audience not in (audience if isinstance(audience, list) else [audience]):
            raise InvalidToken(TokenFault.AUDIENCE)
        if any(name in claims for name in _OTHER_PURPOSES):
            raise InvalidToken(TokenFault.CLAIMS)
        issued, expires = _moment(claims, "iat"), _moment(claims, "exp")
        begins = _moment(claims, "nbf") if "nbf" in claims else issued
        check_times(
            issued=issued, begins=begins, expires=expires, now=now, leeway_s=config.leeway_s
        )
        token_id = claims.get("jti", "")
        if not isinstance(token_id, str) or len(token_id) > _ID_CHARACTERS_MAX:
            raise InvalidToken(TokenFault.CLAIMS)
        return Claims(
            user=self._user(claims),
            token_id=token_id,
            issued=issued,
            expires=expires,
            tenant=self._tenant(claims),
            role=self._role(claims),
        )

    def _user(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self._config.user_claim)
        if not isinstance(name, str) or not is_name(EXTERNAL + name):
            raise InvalidToken(TokenFault.CLAIMS)
        return EXTERNAL + name

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        config = self._config
        name = claims.get(config.tenant_claim, "") if config.tenant_claim else config.tenant
        name = config.tenant if name == "" else name
        if not isinstance(name, str) or not is_name(name) or name == ANONYMOUS:
            raise InvalidToken(TokenFault.CLAIMS)
        return name

    def _role(self, claims: Mapping[str, Any]) -> Role:
        name = self._config.role_claim
        if not name:
            return Role.USER
        found: Any = claims
        # A claim may be called by an address, which has dots of its own.
        for step in [name] if name in claims else name.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        named = found.split() if isinstance(found, str) else found
        if isinstance(named, list):
            for there, here in self._roles.items():
                if there in named:
                    return here
        raise InvalidToken(TokenFault.ROLE)


def _header(token: str) -> _Header:
    check_shape(token, TOKEN_CHARACTERS_MAX)
    text = part(token, 0)
    try:
        header = _HEADER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidToken(TokenFault.HEADER) from None
    if not (header.crit is header.b64 is header.zip is UNSET):
        raise InvalidToken(TokenFault.HEADER)
    return header


def _moment(claims: Mapping[str, Any], name: str) -> float:
    found = claims.get(name)
    if not is_number(found):
        raise InvalidToken(TokenFault.CLAIMS)
    assert isinstance(found, int | float)
    return float(found)
