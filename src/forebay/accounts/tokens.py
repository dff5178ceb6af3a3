"""Our own tokens: JSON Web Tokens, made at login and verified as RFC 8725 wants.

Theory of operation
-------------------
A token is one short line of three base64url parts.  Nothing in it chooses how it is verified:

- It is bounded and has the right shape before anything of it is decoded.
- Its header holds `alg`, `kid` and `typ` and nothing else.  `jku`, `x5u`, `jwk`, `crit` and
  whatever else would have to be understood make it invalid.
- `kid` is looked up among the keys that are in memory; it is no path, no URL and never in SQL.
- Each key has one algorithm, HS256 (see ADR 21), so that `none`, and a public key that is
  taken for a secret, are not among what could be asked for.
- `typ` is `at+jwt` (RFC 9068): no token of another kind and with the same keys is taken for one.
- All of `iss aud sub jti iat nbf exp` must be there, of their types, and right.

What fails has a fault from a closed set, for a metric; whoever sent the token is told nothing.
"""

import base64
import binascii
import enum
import math
import re
import secrets
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from jwt import PyJWS
from jwt.exceptions import PyJWTError
from msgspec import Struct

from forebay.accounts.token_config import TokensConfig
from forebay.core.caller import Role

ALGORITHM: Final = "HS256"
TYPE: Final = "at+jwt"
TOKEN_CHARACTERS_MAX: Final = 1_024
"""Of one of ours, which has 150 and what `iss`, `aud` and `sub` take."""
ID_CHARACTERS_MAX: Final = 64
"""Of a `kid` and a `jti`."""
USER_CHARACTERS_MAX: Final = 256
_JTI_BYTES: Final = 16
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class TokenFault(enum.StrEnum):
    """Why a token is not taken: a closed set, for a metric."""

    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    HEADER = "header"
    ALGORITHM = "algorithm"
    TYPE = "type"
    KEY = "key"
    SIGNATURE = "signature"
    CLAIMS = "claims"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET = "not_yet"
    ROLE = "role"
    """None of the roles that an external issuer names means anything here."""
    REVOKED = "revoked"


class InvalidToken(Exception):
    """A token is not taken.  Its text is fixed; nothing of the token is in it."""

    def __init__(self, fault: TokenFault) -> None:
        """Keep why, for a metric."""
        super().__init__("The token is not valid.")
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says.  Moments are Unix seconds."""

    user: str
    token_id: str
    issued: float
    """A token that is older than its user's password is not taken: see `accounts/callers.py`."""
    expires: float
    tenant: str = ""
    """Of an external issuer's user; empty: the accounts database knows."""
    role: Role | None = None
    """Of an external issuer's user; None: the accounts database knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new token, and how long it lives."""

    token: str
    expires_in: int
    """Seconds."""
    token_id: str

    def __repr__(self) -> str:
        return f"Issued(token=<secret>, expires_in={self.expires_in})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A secret that signs and verifies; its moments are Unix seconds."""

    kid: str
    secret: bytes
    created: float
    retires: float
    """No token of its lives longer."""

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r}, secret=<secret>)"


class Keys(Protocol):
    """Who keeps the keys.  Both may raise AccountsAway."""

    def signing(self, now: float) -> SigningKey:
        """Return the key that signs now."""

    def find(self, kid: str, now: float) -> SigningKey | None:
        """Return the key of that name, if tokens of it may still be alive."""


class Revoked(Protocol):
    """Who knows the tokens that were logged out.  It may raise AccountsAway."""

    def has(self, token_id: str, now: float) -> bool:
        """Whether a token was logged out."""


class _Header(Struct, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str


class _Payload(Struct, forbid_unknown_fields=True):
    iss: str
    aud: str
    sub: str
    jti: str
    iat: float
    nbf: float
    exp: float


_HEADER: Final = msgspec.json.Decoder(_Header)
_PAYLOAD: Final = msgspec.json.Decoder(_Payload)


class Tokens:
    """Makes tokens, and verifies those that it made.  For any number of threads."""

    def __init__(self, keys: Keys, revoked: Revoked, config: TokensConfig) -> None:
        """Sign with `keys`; take no token that is `revoked`."""
        self._keys = keys
        self._revoked = revoked
        self._config = config
        self._jws = PyJWS(algorithms=[ALGORITHM])

    @property
    def issuer(self) -> str:
        """What our tokens say in `iss`."""
        return self._config.issuer

    def issue(self, user: str, now: float) -> Issued:
        """Return a token for a user who has just logged in; raises AccountsAway."""
        assert 0 < len(user) <= USER_CHARACTERS_MAX, "names are bounded where users are made"
        config, key = self._config, self._keys.signing(now)
        expires = math.floor(min(now + config.ttl_s, key.retires))
        payload = _Payload(
            iss=config.issuer,
            aud=config.audience,
            sub=user,
            jti=secrets.token_urlsafe(_JTI_BYTES),
            # With milliseconds: whether it is older than its user's password depends on them.
            iat=round(now, 3),
            nbf=math.floor(now),
            exp=expires,
        )
        token = self._jws.encode(
            msgspec.json.encode(payload),
            key.secret,
            algorithm=ALGORITHM,
            headers={"kid": key.kid, "typ": TYPE},
        )
        expires_in = max(0, math.floor(expires - now))
        return Issued(token=token, expires_in=expires_in, token_id=payload.jti)

    def verify(self, token: str, now: float) -> Claims:
        """Return what a token says; raises InvalidToken or AccountsAway."""
        header = _header(token)
        if header.alg != ALGORITHM:
            raise InvalidToken(TokenFault.ALGORITHM)
        if header.typ.lower() != TYPE:
            raise InvalidToken(TokenFault.TYPE)
        key = self._keys.find(header.kid, now) if len(header.kid) <= ID_CHARACTERS_MAX else None
        if key is None:
            raise InvalidToken(TokenFault.KEY)
        payload = self._payload(token, key)
        self._check(payload, now)
        if self._revoked.has(payload.jti, now):
            raise InvalidToken(TokenFault.REVOKED)
        return Claims(
            user=payload.sub, token_id=payload.jti, issued=payload.iat, expires=payload.exp
        )

    def _payload(self, token: str, key: SigningKey) -> _Payload:
        try:
            text = self._jws.decode(token, key.secret, algorithms=[ALGORITHM])
        except PyJWTError:
            raise InvalidToken(TokenFault.SIGNATURE) from None
        try:
            return _PAYLOAD.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise InvalidToken(TokenFault.CLAIMS) from None

    def _check(self, payload: _Payload, now: float) -> None:
        if payload.iss != self._config.issuer:
            raise InvalidToken(TokenFault.ISSUER)
        if payload.aud != self._config.audience:
            raise InvalidToken(TokenFault.AUDIENCE)
        named = 0 < len(payload.jti) <= ID_CHARACTERS_MAX
        if not named or not 0 < len(payload.sub) <= USER_CHARACTERS_MAX:
            raise InvalidToken(TokenFault.CLAIMS)
        check_times(
            issued=payload.iat,
            begins=payload.nbf,
            expires=payload.exp,
            now=now,
            leeway_s=self._config.leeway_s,
        )


def check_shape(token: str, characters_max: int) -> None:
    """Refuse what is too long, or not three parts of base64url, before anything is decoded."""
    if len(token) > characters_max:
        raise InvalidToken(TokenFault.TOO_LONG)
    if _SHAPE.fullmatch(token) is None:
        raise InvalidToken(TokenFault.MALFORMED)


def part(token: str, number: int) -> bytes:
    """Return one part of a token of the right shape, decoded; raises InvalidToken."""
    text = token.split(".")[number]
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise InvalidToken(TokenFault.MALFORMED) from None


def check_times(
    *, issued: float, begins: float, expires: float, now: float, leeway_s: float
) -> None:
    """Refuse a token whose time has passed or has not come; moments are Unix seconds."""
    if expires <= now - leeway_s:
        raise InvalidToken(TokenFault.EXPIRED)
    if max(issued, begins) > now + leeway_s:
        raise InvalidToken(TokenFault.NOT_YET)
    if expires <= max(issued, begins):
        raise InvalidToken(TokenFault.CLAIMS)


def _header(token: str) -> _Header:
    check_shape(token, TOKEN_CHARACTERS_MAX)
    text = part(token, 0)
    try:
        return _HEADER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidToken(TokenFault.HEADER) from None
