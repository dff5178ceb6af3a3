"""The keys that sign our tokens: in the accounts database, so that several gateways agree.

Theory of operation
-------------------
One key signs at a time, for `tokens.rotation_s`.  Its successor is written into the database
`_ANNOUNCED_S` before it signs, and every gateway reads the keys each `_REFRESH_S`: so a gateway
knows a key before it sees a token of it.  A key that signs no more verifies until its last token
has ended, and then its row is deleted.

    made ── announced ──> signs ── its successor signs ──> verifies only ── retires ──> deleted

At a database's first start there is nobody to wait for: the only key signs at once, and gateways
that read before find it when a token names it.  For that an unknown `kid` reads the keys again,
at most once in `_UNKNOWN_S` however many kids are thrown at us.  Two gateways that make the first
key at the same moment make two; both verify everywhere, and the newest signs.

While the database is away the keys that are known go on.
"""

import base64
import secrets
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from forebay.accounts.config import AccountsAway
from forebay.accounts.database import Database
from forebay.accounts.schema import SIGNING_KEYS
from forebay.accounts.token_config import LEEWAY_S_MAX, TokensConfig
from forebay.accounts.tokens import SigningKey
from forebay.core.clock import MONOTONIC, Clock

_SECRET_BYTES: Final = 32
"""As many as the hash has: RFC 7518, 3.2."""
_KID_BYTES: Final = 12
_ANNOUNCED_S: Final = 120.0
_REFRESH_S: Final = 30.0
_UNKNOWN_S: Final = 1.0
_KEYS_MAX: Final = 1_000
"""A token lives for a week at most and a key signs for an hour at least: 170 are alive."""


class SigningKeys:
    """Keeps the keys.  For any number of threads; only one of them reads the database."""

    def __init__(
        self, database: Database, config: TokensConfig, *, clock: Clock = MONOTONIC
    ) -> None:
        """Read nothing yet; `clock` says when to read again, whatever happens to the date."""
        self._database = database
        self._config = config
        self._clock = clock
        self._reading = threading.Lock()
        # The whole mutable state: replaced, never changed, so that readers need no lock.
        self._keys: Mapping[str, SigningKey] = MappingProxyType({})
        self._read: float | None = None
        self._tried: float | None = None

    def signing(self, now: float) -> SigningKey:
        """Return the key that signs now; raises AccountsAway if none is known."""
        self._refresh(now)
        key = self._signing(now)
        if key is None or self._is_old(key, now):
            # The gateways were all away when it was time for a new one.
            self._read_now(now)
            key = self._signing(now)
        if key is None:
            raise AccountsAway
        return key

    def find(self, kid: str, now: float) -> SigningKey | None:
        """Return the key of that name, if tokens of it may live; raises AccountsAway."""
        self._refresh(now)
        key = self._keys.get(kid)
        if key is None:
            self._read_again(now)
            key = self._keys.get(kid)
        if key is None or key.retires + LEEWAY_S_MAX <= now:
            return None
        return key

    def replace_all(self, now: float) -> None:
        """Forget every key, which ends every token: for a database that others have seen."""
        with self._reading:
            with self._database.writing() as connection:
                connection.execute(delete(SIGNING_KEYS))
                new = _insert(connection, self._new(now))
            self._keep({new})

    def _refresh(self, now: float) -> None:
        """Read the keys if it is time; one thread does, and others go on with what is known."""
        if self._read is None:
            with self._reading:
                if self._read is None and self._passed_s(self._tried) < _UNKNOWN_S:
                    raise AccountsAway  # whoever waited for this lock need not wait once more
                if self._read is None:
                    self._load(now)
        elif self._passed_s(self._read) >= _REFRESH_S and self._reading.acquire(blocking=False):
            try:
                if self._passed_s(self._tried) >= _UNKNOWN_S:
                    self._load(now)
            except AccountsAway:
                return  # the keys that are known go on
            finally:
                self._reading.release()

    def _read_again(self, now: float) -> None:
        """Look for a key that another gateway has made, unless somebody has just looked."""
        if self._passed_s(self._tried) < _UNKNOWN_S:
            return
        with self._reading:
            if self._passed_s(self._tried) >= _UNKNOWN_S:
                self._load(now)

    def _read_now(self, now: float) -> None:
        with self._reading:
            self._load(now)

    def _load(self, now: float) -> None:
        """Read the keys, and make one if it is time; the lock is held."""
        try:
            with self._database.reading() as connection:
                keys = _rows(connection)
            if self._is_due(keys, now):
                with self._database.writing() as connection:
                    keys = self._rotated(connection, now)
        finally:
            self._tried = self._clock()
        self._keep(keys)

    def _rotated(self, connection: Connection, now: float) -> set[SigningKey]:
        keys = _rows(connection)
        if not self._is_due(keys, now):
            return keys  # another gateway was first
        over = {key for key in keys if key.retires + LEEWAY_S_MAX <= now}
        if over:
            gone = [key.kid for key in over]
            connection.execute(delete(SIGNING_KEYS).where(SIGNING_KEYS.c.kid.in_(gone)))
        return (keys - over) | {_insert(connection, self._new(now))}

    def _is_due(self, keys: set[SigningKey], now: float) -> bool:
        """Whether a successor must be announced: the newest key's time is nearly over."""
        # One from the future was made while the clock was wrong: it does not count.
        known = [key for key in keys if key.created <= now + _ANNOUNCED_S]
        ages_s = [now - key.created for key in known if not self._is_old(key, now)]
        return not ages_s or min(ages_s) >= self._config.rotation_s - _ANNOUNCED_S

    def _is_old(self, key: SigningKey, now: float) -> bool:
        """Whether a token that it signed now would end before its time."""
        return key.retires - self._config.ttl_s < now

    def _signing(self, now: float) -> SigningKey | None:
        """Return the newest that everybody knows; where there is none of use, the newest."""
        alive = [key for key in self._keys.values() if key.retires > now]
        # Others find one that they have not read of when a token names it.
        fit = [key for key in alive if not self._is_old(key, now)] or alive
        announced = [key for key in fit if key.created + _ANNOUNCED_S <= now]
        return max(announced or fit, key=lambda key: (key.created, key.kid), default=None)

    def _new(self, now: float) -> SigningKey:
        config = self._config
        # Twice the announcement: until others have read it, and until they have read its successor.
        lives_s = config.rotation_s + config.ttl_s + 2 * _ANNOUNCED_S
        return SigningKey(
            kid=secrets.token_urlsafe(_KID_BYTES),
            secret=secrets.token_bytes(_SECRET_BYTES),
            created=now,
            retires=now + lives_s,
        )

    def _keep(self, keys: set[SigningKey]) -> None:
        self._keys = MappingProxyType({key.kid: key for key in keys})
        self._read = self._clock()

    def _passed_s(self, since: float | None) -> float:
        return float("inf") if since is None else self._clock() - since


def _rows(connection: Connection) -> set[SigningKey]:
    newest = select(SIGNING_KEYS).order_by(SIGNING_KEYS.c.created.desc()).limit(_KEYS_MAX)
    return {
        SigningKey(
            kid=row.kid,
            secret=base64.urlsafe_b64decode(row.secret),
            created=row.created,
            retires=row.retires,
        )
        for row in connection.execute(newest)
    }


def _insert(connection: Connection, key: SigningKey) -> SigningKey:
    connection.execute(
        insert(SIGNING_KEYS).values(
            kid=key.kid,
            secret=base64.urlsafe_b64encode(key.secret).decode("ascii"),
            created=key.created,
            retires=key.retires,
        )
    )
    return key
