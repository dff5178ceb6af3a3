"""Credentials that callers show, and whom they stand for: looked up once, then known for a while.

Theory of operation
-------------------
A credential is known by its SHA-256, so that neither the table nor its timing tells anything of
it.  What is not known is looked up in a thread, once for all who show it meanwhile; the lookups
under way are bounded, and so are the known, good and bad apart: strangers cannot push callers
out.  What is known is believed for `cached_s`; then it is looked up again.  While the accounts
cannot be asked, or do not answer within `answer_s_max`, or strangers ask so much that there is no
place, what was good is believed for `stale_s` more, and nobody new is let in.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from forebay.accounts.config import AccountsAway
from forebay.core.caller import Caller
from forebay.core.clock import Clock
from forebay.core.errors import Overloaded, Unauthenticated
from forebay.core.knob import knob
from forebay.serve.clerks import Clerks, accounts_away

_UNKNOWN: Final = "This credential is unknown, has ended or was revoked. Send a valid API key."


Finder = Callable[[str], Caller | None]
"""Credential -> whom it stands for, None for nobody; blocks; raises AccountsAway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessConfig:
    """Who is let in."""

    mode: str = knob(
        "open",
        "Open: whoever reaches the server may use it, and it listens on loopback only. "
        "Closed: callers show a key or a token of an account; everything else is refused.",
        choices=("open", "closed"),
    )
    dev: bool = knob(
        default=False,
        help="Let passwords be that everybody knows or guesses; for development only (--dev).",
    )
    api_key_header: str = knob(
        "X-API-Key", "Header, beside Authorization: Bearer, in which a key may be sent."
    )
    admin_password: str = knob(
        "",
        "Password of the first user, admin, at the first start of closed mode; empty: one is made "
        "and printed once.",
        secret=True,
    )
    cached_s: float = knob(
        5.0,
        "How long a credential that was looked up is believed, in seconds: a key that another "
        "gateway revokes may serve that long.",
        minimum=0.0,
        maximum=300.0,
        live=True,
    )
    stale_s: float = knob(
        60.0,
        "How much longer it is believed while the accounts cannot be asked, in seconds.",
        minimum=0.0,
        maximum=3_600.0,
        live=True,
    )
    answer_s_max: float = knob(
        2.0,
        "Longest that a request waits for the accounts to be asked about its credential, in "
        "seconds.",
        minimum=0.01,
        maximum=60.0,
        live=True,
    )
    credentials_max: int = knob(
        10_000,
        "Most credentials that are remembered, good ones and bad ones each.",
        minimum=100,
        maximum=1_000_000,
    )
    lookups_max: int = knob(
        256,
        "Most questions to the accounts at once; whoever asks more is told to come back.",
        minimum=1,
        maximum=10_000,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller | None
    since: float


@dataclass(frozen=True, slots=True)
class _LookUp:
    answer: "asyncio.Future[Caller | None]"
    since: float


class Credentials:
    """Whom each credential stands for."""

    def __init__(
        self, finder: Finder, config: AccessConfig, *, clerks: Clerks, now: Clock, wall: Clock
    ) -> None:
        """Let `clerks` ask `finder`; on the clock `now`, and by `wall`, Unix seconds."""
        self._finder = finder
        self._clerks = clerks
        self._config = config
        self._now = now
        self._wall = wall
        # The whole mutable state: the known, good and bad; lookups under way; when keys were used.
        self._good: OrderedDict[bytes, _Known] = OrderedDict()
        self._bad: OrderedDict[bytes, _Known] = OrderedDict()
        self._under_way: dict[bytes, _LookUp] = {}
        self.used: dict[str, float] = {}

    def reconfigure(self, config: AccessConfig) -> None:
        """Believe for as long as `config` says."""
        self._config = config

    def forget(self) -> None:
        """Look every credential up again: something was revoked or changed."""
        self._good.clear()
        self._bad.clear()
        self._under_way.clear()  # what those find is of before, and is not remembered

    def take_used(self) -> dict[str, float]:
        """Return when keys were last used, Unix seconds, and begin anew."""
        used, self.used = self.used, {}
        return used

    async def find(self, given: bytes) -> Caller:
        """Return whom a credential stands for; raises Unauthenticated, or Overloaded."""
        digest = hashlib.sha256(given).digest()
        known = self._good.get(digest) or self._bad.get(digest)
        if known is not None and self._now() - known.since <= self._config.cached_s:
            return self._admitted(known.caller)
        return self._admitted(await self._looked_up(digest, given, known))

    def _admitted(self, caller: Caller | None) -> Caller:
        wall_s = self._wall()
        if caller is None or caller.expires <= wall_s:
            raise Unauthenticated(_UNKNOWN)
        if caller.key_id:
            self.used[caller.key_id] = wall_s
        return caller

    async def _looked_up(self, digest: bytes, given: bytes, known: _Known | None) -> Caller | None:
        try:
            return await self._answer(digest, given)
        except (AccountsAway, Overloaded):
            believed_s = self._config.cached_s + self._config.stale_s
            if known is not None and known.caller and self._now() - known.since <= believed_s:
                return known.caller
            raise accounts_away() from None

    async def _answer(self, digest: bytes, given: bytes) -> Caller | None:
        """Ask once for all who wait; raises AccountsAway also where there is no answer in time."""
        now = self._now()
        look_up = self._under_way.get(digest)
        if look_up is None:
            # Not ASCII: nobody's.  It still takes the same way, so that it costs the same.
            text = given.decode("ascii", "replace")
            look_up = _LookUp(self._clerks.ask(partial(self._finder, text)), now)
            self._under_way[digest] = look_up
            look_up.answer.add_done_callback(partial(self._note, digest))
        # Whoever comes when it has been late for long does not wait anew.
        left_s = max(0.0, look_up.since + self._config.answer_s_max - now)
        await asyncio.wait({look_up.answer}, timeout=left_s)
        if not look_up.answer.done():
            raise AccountsAway
        return look_up.answer.result()

    def _note(self, digest: bytes, done: "asyncio.Future[Caller | None]") -> None:
        failed = done.cancelled() or done.exception() is not None
        look_up = self._under_way.get(digest)
        if look_up is None or look_up.answer is not done:
            return
        del self._under_way[digest]
        if failed:
            return
        caller = done.result()
        here, there = (self._bad, self._good) if caller is None else (self._good, self._bad)
        there.pop(digest, None)
        here[digest] = _Known(caller, self._now())
        here.move_to_end(digest)
        if len(here) > self._config.credentials_max:
            here.popitem(last=False)
