"""Whose token it is: ours, or one of the external issuer's.

What a token says of its issuer is not verified yet; it decides only who verifies it, and each of
them takes its own keys, algorithms and issuer and nobody else's.
"""

import threading
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from forebay.accounts.tokens import (
    Claims,
    InvalidToken,
    TokenFault,
    Tokens,
    check_shape,
    part,
)

TOKEN_CHARACTERS_MAX: Final = 8_192
"""Of anybody's: external issuers put groups and names into theirs."""


class External(Protocol):
    """Who verifies the external issuer's tokens."""

    @property
    def issuer(self) -> str:
        """What those tokens say in `iss`."""

    def verify(self, token: str, now: float) -> Claims:
        """Return what a token says; raises InvalidToken, or AccountsAway without its keys."""


class _Issuer(Struct):
    iss: str = ""


class Bearers:
    """Verifies tokens of every issuer that is taken.  For any number of threads."""

    def __init__(self, own: Tokens, external: External | None = None) -> None:
        """Take our own tokens, and those of one external issuer if there is one."""
        self._own = own
        self._external = external
        self._issuer = msgspec.json.Decoder(_Issuer)
        # The whole mutable state: tokens that were not taken, by why.
        self._counting = threading.Lock()
        self.refused = dict.fromkeys(TokenFault, 0)

    def verify(self, token: str, now: float) -> Claims:
        """Return what a token says; raises InvalidToken or AccountsAway."""
        try:
            return self._verified(token, now)
        except InvalidToken as refused:
            with self._counting:
                self.refused[refused.fault] += 1
            raise

    def _verified(self, token: str, now: float) -> Claims:
        external = self._external
        if external is None:
            return self._own.verify(token, now)
        check_shape(token, TOKEN_CHARACTERS_MAX)
        try:
            issuer = self._issuer.decode(part(token, 1)).iss
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise InvalidToken(TokenFault.CLAIMS) from None
        if issuer == external.issuer:
            return external.verify(token, now)
        return self._own.verify(token, now)
