"""Tokens that were logged out before their time.

Each gateway remembers those that it knows of, so that they cost nothing more; of any other it
asks the database, once for each time that the token is verified.  A gateway keeps a verified
credential for `access.cached_s`: so long a logout in another gateway may go unnoticed, and no
longer.  In its own gateway it holds at once, for `knows` needs no database.
"""

import threading
from collections import OrderedDict
from typing import Final

from sqlalchemy import delete, insert, select

from forebay.accounts.config import RowRefused
from forebay.accounts.database import Database
from forebay.accounts.schema import REVOKED_TOKENS
from forebay.accounts.token_config import LEEWAY_S_MAX

_REMEMBERED_MAX: Final = 10_000


class Denylist:
    """Knows what was logged out.  For any number of threads."""

    def __init__(self, database: Database, *, remembered_max: int = _REMEMBERED_MAX) -> None:
        """Remember at most so many; what is forgotten is asked for again."""
        self._database = database
        self._remembered_max = remembered_max
        # The whole mutable state: token -> when it ends by itself, Unix seconds.
        self._remembered: OrderedDict[str, float] = OrderedDict()
        self._changing = threading.Lock()

    def revoke(self, token_id: str, expires: float, now: float) -> None:
        """End a token, for good once this returns; raises AccountsAway."""
        table = REVOKED_TOKENS
        try:
            with self._database.writing() as connection:
                over = table.c.expires <= now - LEEWAY_S_MAX
                connection.execute(delete(table).where(over))
                connection.execute(insert(table).values(jti=token_id, expires=expires))
        except RowRefused:
            pass  # it was logged out before
        self._remember(token_id, expires)

    def knows(self, token_id: str) -> bool:
        """Whether this gateway knows that a token was logged out; asks nobody."""
        return token_id in self._remembered

    def has(self, token_id: str, now: float) -> bool:
        """Whether a token was logged out anywhere; raises AccountsAway."""
        if self.knows(token_id):
            return True
        table = REVOKED_TOKENS
        with self._database.reading() as connection:
            found = select(table.c.expires).where(table.c.jti == token_id)
            expires = connection.execute(found).scalar()
        if expires is None:
            return False
        if expires > now - LEEWAY_S_MAX:
            self._remember(token_id, expires)
        return True

    def _remember(self, token_id: str, expires: float) -> None:
        with self._changing:
            self._remembered[token_id] = expires
            if len(self._remembered) > self._remembered_max:
                self._remembered.popitem(last=False)
