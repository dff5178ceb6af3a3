"""Logins with a password: cheap to refuse, equally slow for everybody, and no way to ask who is.

Theory of operation
-------------------
An attempt passes three stations, the cheap ones first:

1. *Back-off* (`policy/login_backoff.py`): whoever failed lately waits.  It knows nothing of which
   accounts there are.
2. *A place* (`serve/hashing.py`): a short queue, and a share of one core for all attempts
   together.  Without one nothing is asked, so that a flood costs what refusing costs.
3. *The check*: one look-up and one Argon2, whether or not the user exists, is enabled, or has a
   password.  Only what comes after a success differs.

Every failure of the third station is told in the same words.  Waits and refusals of the first two
depend on what was tried, and never on what is true.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from forebay.accounts.audit_event import Action, AuditEvent
from forebay.accounts.config import AccountsAway
from forebay.accounts.people import EXTERNAL
from forebay.core.caller import Caller
from forebay.core.clock import Clock
from forebay.core.errors import (
    Forbidden,
    Invalid,
    Outcome,
    Overloaded,
    RateLimited,
    Unauthenticated,
)
from forebay.policy.login_backoff import Attempt, LoginBackoff
from forebay.serve.clerks import Clerks, accounts_away
from forebay.serve.hashing import Hashing
from forebay.serve.login_config import LoginConfig

Note = Callable[[AuditEvent], None]
"""Takes one line of the audit log; never blocks, never raises."""

_WRONG: Final = "The username or the password is wrong."
_WAIT: Final = "Too many logins like this one failed. Try again after Retry-After."
_NO_TOKEN: Final = "Only a token from POST /auth/login can be logged out; revoke a key instead."
_NO_PASSWORD: Final = "A password is changed with a token from POST /auth/login, and by no key."
_SAME: Final = "The new password is the current one."
USERNAME_CHARACTERS_MAX: Final = 128
PASSWORD_CHARACTERS_MAX: Final = 256
"""As `accounts.passwords`: longer ones cannot be right, and are refused before they are hashed."""


class LoginResult(enum.StrEnum):
    """How an attempt ended: a closed set, for a metric."""

    OK = "ok"
    WRONG = "wrong"
    BACKED_OFF = "backed_off"
    OVERLOADED = "overloaded"
    AWAY = "away"


class Directory(Protocol):
    """Who keeps the passwords.  Each blocks, and may raise AccountsAway."""

    def password_of(self, name: str) -> str | None:
        """Return what is kept of a password; None: no such user, disabled, or without one."""

    def keep_password(
        self, name: str, hashed: str, *, ends_tokens: bool = False, instead_of: str | None = None
    ) -> None:
        """Keep a password; with `ends_tokens` it is a new one, and older tokens are void.

        With `instead_of` nothing is kept if another is kept by now.
        """


class Passwords(Protocol):
    """Who hashes and checks them.  `hashed` and `fits` take tens of milliseconds."""

    def hashed(self, password: str) -> str:
        """Return what is kept of a password."""

    def fits(self, kept: str | None, password: str) -> bool:
        """Whether it is the one that was kept; None costs the same, and never fits."""

    def outdated(self, kept: str) -> bool:
        """Whether it should be hashed again."""


class Token(Protocol):
    """A new token: `accounts.tokens.Issued`."""

    @property
    def token(self) -> str:
        """The token itself, which is a secret."""

    @property
    def expires_in(self) -> int:
        """Seconds."""


class Tokens(Protocol):
    """Who makes tokens.  It may raise AccountsAway."""

    def issue(self, user: str, now: float) -> Token:
        """Return a token for a user who has just logged in."""


class Revoking(Protocol):
    """Who ends tokens before their time.  It may raise AccountsAway."""

    def revoke(self, token_id: str, expires: float, now: float) -> None:
        """End a token."""


def _nothing_is_kept() -> None:
    """Believe nothing of credentials, so that nothing is to be forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginParts:
    """What logins are made of."""

    directory: Directory
    passwords: Passwords
    tokens: Tokens
    denylist: Revoking
    hashing: Hashing
    clerks: Clerks
    note: Note
    changed: Callable[[], None] = _nothing_is_kept
    """Called when credentials have ended: what was believed of them is not true any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Where somebody comes from, for the audit log and the back-off."""

    address: str
    request_id: str


class Login:
    """Lets people in, and out again."""

    def __init__(self, parts: LoginParts, config: LoginConfig, *, now: Clock, wall: Clock) -> None:
        """Take two clocks, monotonic and of Unix seconds."""
        self._parts = parts
        self._now = now
        self._wall = wall
        self._backoff = LoginBackoff(config)
        self.results = dict.fromkeys(LoginResult, 0)
        """Attempts by how they ended; only this class writes it."""

    async def login(self, username: str, password: str, visit: Visit) -> Token:
        """Return a token; raises Invalid, Unauthenticated, RateLimited or Overloaded."""
        kept = await self._proven(Action.LOGIN, username, password, visit=visit)
        token = await self._parts.clerks.answer(
            partial(self._parts.tokens.issue, username, self._wall())
        )
        if self._parts.passwords.outdated(kept):
            await self._hash_again(username, password, kept)
        self._parts.note(_event(Action.LOGIN, username, visit))
        return token

    async def logout(self, caller: Caller, visit: Visit) -> None:
        """End the token that was shown; raises Forbidden for a key, or Overloaded."""
        if not caller.token_id or caller.user.startswith(EXTERNAL):
            raise Forbidden(_NO_TOKEN)
        revoke = self._parts.denylist.revoke
        await self._parts.clerks.answer(
            partial(revoke, caller.token_id, caller.expires, self._wall())
        )
        self._parts.changed()
        self._parts.note(_event(Action.LOGOUT, caller.user, visit))

    async def change_password(
        self, caller: Caller, current: str, new: str, *, visit: Visit
    ) -> None:
        """Take a new password, and end every token of the user; raises like `login`."""
        from forebay.accounts.passwords import weakness  # noqa: PLC0415 - in closed mode only

        if not caller.token_id or caller.user.startswith(EXTERNAL):
            raise Forbidden(_NO_PASSWORD)
        weak = _SAME if new == current else weakness(new, caller.user)
        if weak is not None:
            raise Invalid(weak, param="new")
        parts, name = self._parts, caller.user
        await self._proven(Action.PASSWORD_CHANGED, name, current, visit=visit)
        with parts.hashing.place(known=True) as place:
            hashed = await place.run(partial(parts.passwords.hashed, new))
        await self._parts.clerks.answer(
            partial(parts.directory.keep_password, name, hashed, ends_tokens=True)
        )
        self._parts.changed()
        self._parts.note(_event(Action.PASSWORD_CHANGED, name, visit))

    async def _proven(self, action: Action, username: str, password: str, *, visit: Visit) -> str:
        """Return what is kept of a password that was shown to be known."""
        _check_length("username", username, USERNAME_CHARACTERS_MAX)
        _check_length("password", password, PASSWORD_CHARACTERS_MAX)
        attempt = self._backoff.begin(username, visit.address, self._now())
        if attempt.wait_s > 0.0:
            self.results[LoginResult.BACKED_OFF] += 1
            raise RateLimited(_WAIT, retry_after_s=attempt.wait_s)
        # Whoever leaves meanwhile has failed: or else leaving early would make guessing free.
        kept, fits = await self._checked(attempt, username, password)
        if kept is None or not fits:
            self.results[LoginResult.WRONG] += 1
            # What is nobody's name may be a password that was typed in the wrong place.
            named = "" if kept is None else username
            self._parts.note(_event(action, named, visit, outcome=Outcome.UNAUTHENTICATED))
            raise Unauthenticated(_WRONG)
        self._backoff.succeeded(attempt, self._now())
        self._parts.hashing.forgive()
        self.results[LoginResult.OK] += 1
        return kept

    async def _checked(
        self, attempt: Attempt, username: str, password: str
    ) -> tuple[str | None, bool]:
        """Look up and hash, whoever it is; return what is kept, and whether it fits."""
        parts = self._parts
        try:
            with parts.hashing.place(known=attempt.known) as place:
                kept = await parts.clerks.ask(partial(parts.directory.password_of, username))
                fits = await place.run(partial(parts.passwords.fits, kept, password))
        except Overloaded:
            self._backoff.withdrawn(attempt)
            self.results[LoginResult.OVERLOADED] += 1
            raise
        except AccountsAway:
            self._backoff.withdrawn(attempt)
            self.results[LoginResult.AWAY] += 1
            raise accounts_away() from None
        return kept, fits

    async def _hash_again(self, username: str, password: str, kept: str) -> None:
        """Keep the password with the parameters of today, if there is room for that now."""
        parts = self._parts
        try:
            with parts.hashing.place(known=True) as place:
                hashed = await place.run(partial(parts.passwords.hashed, password))
            keep = partial(parts.directory.keep_password, username, hashed, instead_of=kept)
            await self._parts.clerks.answer(keep)
        except Overloaded:
            return  # the next login tries again


def _check_length(param: str, text: str, characters_max: int) -> None:
    if not 0 < len(text) <= characters_max:
        raise Invalid(f"{param} must have 1 to {characters_max} characters.", param=param)


def _event(
    action: Action, username: str, visit: Visit, *, outcome: Outcome = Outcome.OK
) -> AuditEvent:
    return AuditEvent(
        action=action,
        actor=username,
        outcome=outcome,
        address=visit.address,
        request_id=visit.request_id,
    )
