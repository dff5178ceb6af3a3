"""`/auth`: a password for a token, and what its holder may do with both.

Nothing of a body is told again in an error: whatever is in it may be a password.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from forebay.core.caller import Right
from forebay.core.errors import Invalid
from forebay.gateway.exchange import Exchange
from forebay.gateway.problems import JSON
from forebay.gateway.routing import Endpoint
from forebay.serve.login import Login, Visit

LOGIN_PATH: Final = "/auth/login"
LOGOUT_PATH: Final = "/auth/logout"
PASSWORD_PATH: Final = "/auth/password"
ME_PATH: Final = "/auth/me"
BODY_BYTES_MAX: Final = 4_096
"""Both texts at their longest, each character escaped, take 3 kB."""

T = TypeVar("T", bound=Struct)


class LoginBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Who wants to log in."""

    username: str
    password: str


class PasswordBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """A new password for whoever shows a token and knows the current one."""

    current: str
    new: str


class TokenPage(Struct, kw_only=True):
    """A token, as RFC 6750 wants it sent: `Authorization: Bearer <access_token>`."""

    access_token: str
    token_type: str
    expires_in: int
    """Seconds."""


class MePage(Struct, kw_only=True):
    """Who asks, as this server knows it."""

    user: str
    tenant: str
    key_id: str | None
    """The API key that was shown; null: a token was."""
    rights: list[Right]
    models: list[str] | None
    """Names that it may ask; null: all."""
    expires_at: float | None
    """When the credential ends, Unix seconds; null: never by itself."""


class DonePage(Struct, kw_only=True):
    """That something was done."""

    status: str


_LOGIN: Final = msgspec.json.Decoder(LoginBody)
_PASSWORD: Final = msgspec.json.Decoder(PasswordBody)


class Auth:
    """Serves `/auth`."""

    def __init__(self, login: Login, *, address_of: Callable[[Exchange], str]) -> None:
        """Let `login` decide; `address_of` knows which proxies to believe."""
        self._login = login
        self._address_of = address_of

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return the routes, by path."""
        post = ("POST",)
        return {
            LOGIN_PATH: Endpoint(serve=self.login, methods=post, right=None),
            LOGOUT_PATH: Endpoint(serve=self.logout, methods=post, right=None, known=True),
            PASSWORD_PATH: Endpoint(serve=self.password, methods=post, right=None, known=True),
            ME_PATH: Endpoint(serve=self.whoami, methods=("GET", "HEAD"), right=None, known=True),
        }

    async def login(self, exchange: Exchange) -> None:
        """Give a token for a password; raises ServingError, as each here does."""
        body = await _body(exchange, _LOGIN)
        token = await self._login.login(body.username, body.password, self._visit(exchange))
        page = TokenPage(access_token=token.token, token_type="bearer", expires_in=token.expires_in)
        await _answer(exchange, page)

    async def logout(self, exchange: Exchange) -> None:
        """End the token that was shown."""
        await self._login.logout(exchange.caller, self._visit(exchange))
        await _answer(exchange, DonePage(status="logged out"))

    async def password(self, exchange: Exchange) -> None:
        """Take a new password; every token of the user ends."""
        body = await _body(exchange, _PASSWORD)
        await self._login.change_password(
            exchange.caller, body.current, body.new, visit=self._visit(exchange)
        )
        await _answer(exchange, DonePage(status="changed; log in again"))

    async def whoami(self, exchange: Exchange) -> None:
        """Say who asks."""
        caller = exchange.caller
        page = MePage(
            user=caller.user,
            tenant=caller.tenant,
            key_id=caller.key_id or None,
            rights=sorted(caller.rights),
            models=None if caller.models is None else sorted(caller.models),
            expires_at=None if math.isinf(caller.expires) else caller.expires,
        )
        await _answer(exchange, page)

    def _visit(self, exchange: Exchange) -> Visit:
        return Visit(address=self._address_of(exchange), request_id=exchange.id)


async def _body(exchange: Exchange, decoder: "msgspec.json.Decoder[T]") -> T:
    """Return what was sent; raises Invalid in words that hold nothing of it."""
    body = await exchange.body()
    fields = " and ".join(f"'{name}'" for name in decoder.type.__struct_fields__)
    if len(body) > BODY_BYTES_MAX:
        raise Invalid(f"The body is larger than {BODY_BYTES_MAX} bytes.", status=413)
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = f"The body must be a JSON object with the texts {fields}, and nothing else."
        raise Invalid(message) from None


async def _answer(exchange: Exchange, page: Struct) -> None:
    await exchange.answer(200, msgspec.json.encode(page), JSON)
