"""The tables of accounts, as the code asks them; `migrations/` makes them.

Moments are Unix seconds by the gateways' clocks; whole ones where windows must be equal.  Names
are compared byte by byte; no two users differ in nothing but capitals.  Nothing is ever deleted
because something else is: users and keys are disabled or revoked, so that usage and the audit log
still say whose it was.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)

VERSION_TABLE: Final = "forebay_schema"
"""Where the migration that was last run is named."""
METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
# SQLite numbers rows by itself in a column that is called INTEGER and nothing else.
_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")


def _bounds() -> list[Column[int] | Column[float]]:
    """Return the columns of what one account may use; null: no limit."""
    return [
        Column("requests_amount", BigInteger),
        Column("requests_period_s", Double),
        Column("tokens_amount", BigInteger),
        Column("tokens_period_s", Double),
        Column("concurrent", Integer),
    ]


TENANTS: Final = Table(
    "tenants",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("disabled", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    *_bounds(),
)

USERS: Final = Table(
    "users",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("tenant", Text, ForeignKey("tenants.name"), nullable=False, index=True),
    Column("role", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    # Argon2's own text; empty: no password opens this user, which then is a service account.
    Column("password", Text, nullable=False),
    Column("weak", Boolean, nullable=False),
    # Tokens that were issued before are void.
    Column("tokens_from", Double, nullable=False),
    *_bounds(),
    CheckConstraint("role IN ('admin', 'operator', 'user', 'metrics-reader')", name="role"),
)
Index("uq_users_lower_name", func.lower(USERS.c.name), unique=True)

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("user_name", Text, ForeignKey("users.name"), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("last4", Text, nullable=False),
    # The one that a rotation replaced, until it ends.
    Column("old_digest", Text),
    Column("old_last4", Text),
    Column("old_ends", Double),
    # Rights between spaces; names of models as a JSON array, null: all.
    Column("scopes", Text, nullable=False),
    Column("models", Text),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
    Column("last_used", Double),
    *_bounds(),
)

SIGNING_KEYS: Final = Table(
    "signing_keys",
    METADATA,
    Column("kid", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("retires", Double, nullable=False),
)

REVOKED_TOKENS: Final = Table(
    "revoked_tokens",
    METADATA,
    Column("jti", Text, primary_key=True),
    Column("expires", Double, nullable=False, index=True),
)

BUDGETS: Final = Table(
    "budgets",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("level", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("limit_amount", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    UniqueConstraint("level", "account", "unit", "period"),
    CheckConstraint("period IN ('day', 'month')", name="period"),
    CheckConstraint("unit IN ('tokens', 'nanos')", name="unit"),
    CheckConstraint("limit_amount >= 0 AND reserved >= 0 AND spent >= 0", name="amounts"),
    # The id of a budget that was removed is not given to another: a late settlement bears it.
    sqlite_autoincrement=True,
)

RESERVATIONS: Final = Table(
    "reservations",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("budget_id", _NUMBER, ForeignKey("budgets.id"), primary_key=True, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
)

USAGE: Final = Table(
    "usage",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("tenant", Text, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("nanos", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Index("ix_usage_tenant_at", "tenant", "at"),
    Index("ix_usage_user_name_at", "user_name", "at"),
    Index("ix_usage_key_id_at", "key_id", "at"),
)

AUDIT: Final = Table(
    "audit",
    METADATA,
    # 1, 2, 3 and so on without a gap: a row that is missing is seen.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False, index=True),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("details", Text, nullable=False),
    # No two rows follow the same one: the chain cannot fork.
    Column("previous", Text, nullable=False, unique=True),
    Column("digest", Text, nullable=False),
)

AUDIT_HEAD: Final = Table(
    "audit_head",
    METADATA,
    # One row: the last of the chain.  Whoever adds to the chain holds it.
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("id", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    CheckConstraint("one = 1", name="one"),
)
