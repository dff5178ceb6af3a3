"""One gateway's view of an OpenID issuer, and what its tokens say."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from forebay.accounts.config import AccountsAway
from forebay.accounts.jwks import Jwks
from forebay.accounts.oidc import Oidc
from forebay.accounts.token_config import OidcConfig
from forebay.accounts.tokens import Claims, InvalidToken, TokenFault
from forebay.core.clock import ManualClock
from tests.support.issuers import Issuer
from tests.support.tokens import NOW

ISSUER, AUDIENCE = "https://id.example/realm", "forebay-prod"
DAY_S = 86_400.0


class Site:
    """One gateway's view of the issuer, with its own clock."""

    def __init__(self, issuer: Issuer, **config: Any) -> None:
        self.issuer = issuer
        self.clock = ManualClock(100.0)
        self.events: list[str] = []
        settings = OidcConfig(issuer=ISSUER, audience=AUDIENCE, jwks_url=issuer.url)
        self.config = replace(settings, **({"timeout_s": 5.0} | config))
        self.jwks = Jwks(self.config, clock=self.clock, log=self._note)
        self.oidc = Oidc(self.jwks, self.config)

    def _note(self, event: str, /, **fields: str | float | bool | None) -> None:
        self.events.append(event)

    def verify(self, token: str, now: float = NOW) -> Claims:
        return self.oidc.verify(token, now)

    def fault(self, token: str, now: float = NOW) -> TokenFault:
        with pytest.raises(InvalidToken) as caught:
            self.verify(token, now)
        return caught.value.fault

    def is_away(self, token: str) -> bool:
        try:
            self.verify(token)
        except AccountsAway:
            return True
        return False

    def fetched(self) -> None:
        """Wait until no fetch is under way."""
        until(lambda: self.jwks._over is None)


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 5.0
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.001)


def said(**changes: Any) -> dict[str, Any]:
    claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "jti": "j1"}
    claims |= {"iat": NOW, "exp": NOW + 600.0, **changes}
    return {name: found for name, found in claims.items() if found is not None}
