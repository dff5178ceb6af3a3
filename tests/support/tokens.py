"""Keys and tokens, and ways to forge them, for tests."""

import base64
import hmac
import json
from typing import Any

from forebay.accounts.config import AccountsAway
from forebay.accounts.tokens import SigningKey

NOW = 1_800_000_000.0
"""Unix seconds, in 2027."""
KEY = SigningKey(kid="k1", secret=b"s" * 32, created=NOW - 1_000.0, retires=NOW + 1e6)


class FixedKeys:
    """One key; it can be away."""

    def __init__(self, key: SigningKey = KEY) -> None:
        """Hold it."""
        self.key = key
        self.asked: list[str] = []
        self.away = False

    def signing(self, now: float) -> SigningKey:
        """Sign with it."""
        return self.key

    def find(self, kid: str, now: float) -> SigningKey | None:
        """Find it by its name."""
        if self.away:
            raise AccountsAway
        self.asked.append(kid)
        return self.key if kid == self.key.kid else None


class RevokedSet(set[str]):
    """Tokens that were logged out."""

    def has(self, token_id: str, now: float) -> bool:
        """Whether it was."""
        return token_id in self


def encoded(part: object) -> str:
    """Write one part of a token: JSON, or bytes as they are."""
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def header(**changes: Any) -> dict[str, Any]:
    """Return the header of one of our tokens; None leaves a field out."""
    return _changed({"alg": "HS256", "kid": KEY.kid, "typ": "at+jwt"}, changes)


def claims(**changes: Any) -> dict[str, Any]:
    """Return what one of our tokens says; None leaves a claim out."""
    said: dict[str, Any] = {"iss": "forebay", "aud": "forebay", "sub": "alice", "jti": "t1"}
    return _changed(said | {"iat": NOW, "nbf": NOW, "exp": NOW + 600.0}, changes)


def forged(head: object, said: object, secret: bytes = KEY.secret, digest: str = "sha256") -> str:
    """Sign anything with a secret."""
    text = f"{encoded(head)}.{encoded(said)}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), digest))}"


def _changed(what: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: found for name, found in (what | changes).items() if found is not None}
