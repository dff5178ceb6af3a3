"""Tenants, users, keys, tokens, budgets, usage, and an audit log that is only added to."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Integer, Text

revision = "0001"
down_revision = None

SQLITE_TRIGGERS = (
    """CREATE TRIGGER audit_keeps_rows BEFORE UPDATE ON audit BEGIN
        SELECT RAISE(ABORT, 'the audit log is only added to'); END""",
    """CREATE TRIGGER audit_loses_nothing BEFORE DELETE ON audit BEGIN
        SELECT RAISE(ABORT, 'the audit log is only added to'); END""",
    # INSERT OR REPLACE deletes without the trigger above.
    """CREATE TRIGGER audit_replaces_nothing BEFORE INSERT ON audit
        WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id OR previous = NEW.previous) BEGIN
        SELECT RAISE(ABORT, 'the audit log is only added to'); END""",
    """CREATE TRIGGER audit_head_goes_on BEFORE UPDATE ON audit_head WHEN NEW.id <= OLD.id BEGIN
        SELECT RAISE(ABORT, 'the audit log is only added to'); END""",
    """CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head BEGIN
        SELECT RAISE(ABORT, 'the audit log is only added to'); END""",
    """CREATE TRIGGER audit_head_is_one BEFORE INSERT ON audit_head
        WHEN EXISTS (SELECT 1 FROM audit_head) BEGIN
        SELECT RAISE(ABORT, 'the audit log is only added to'); END""",
)
POSTGRES_TRIGGERS = (
    """CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'the audit log is only added to'
            USING ERRCODE = 'integrity_constraint_violation'; END $$""",
    """CREATE TRIGGER audit_keeps_rows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()""",
    """CREATE TRIGGER audit_head_goes_on BEFORE UPDATE ON audit_head FOR EACH ROW
        WHEN (NEW.id <= OLD.id) EXECUTE FUNCTION audit_refuses()""",
    """CREATE TRIGGER audit_head_stays BEFORE DELETE OR TRUNCATE ON audit_head
        FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()""",
)


def upgrade() -> None:
    """Make the tables; the names of constraints follow `schema.METADATA`'s convention."""
    _people()
    _keys()
    _tokens()
    _budgets()
    _usage()
    _audit()


def _bounds() -> list[Column[int] | Column[float]]:
    return [
        Column("requests_amount", BigInteger),
        Column("requests_period_s", Double),
        Column("tokens_amount", BigInteger),
        Column("tokens_period_s", Double),
        Column("concurrent", Integer),
    ]


def _people() -> None:
    op.create_table(
        "tenants",
        Column("name", Text, primary_key=True),
        Column("disabled", Boolean, nullable=False),
        Column("created", Double, nullable=False),
        *_bounds(),
    )
    op.create_table(
        "users",
        Column("name", Text, primary_key=True),
        Column("tenant", Text, ForeignKey("tenants.name"), nullable=False, index=True),
        Column("role", Text, nullable=False),
        Column("disabled", Boolean, nullable=False),
        Column("created", Double, nullable=False),
        Column("password", Text, nullable=False),
        Column("weak", Boolean, nullable=False),
        Column("tokens_from", Double, nullable=False),
        *_bounds(),
        sa.CheckConstraint("role IN ('admin', 'operator', 'user', 'metrics-reader')", name="role"),
    )
    op.create_index("uq_users_lower_name", "users", [sa.text("lower(name)")], unique=True)


def _keys() -> None:
    op.create_table(
        "api_keys",
        Column("id", Text, primary_key=True),
        Column("user_name", Text, ForeignKey("users.name"), nullable=False, index=True),
        Column("label", Text, nullable=False),
        Column("digest", Text, nullable=False),
        Column("last4", Text, nullable=False),
        Column("old_digest", Text),
        Column("old_last4", Text),
        Column("old_ends", Double),
        Column("scopes", Text, nullable=False),
        Column("models", Text),
        Column("created", Double, nullable=False),
        Column("expires", Double),
        Column("revoked", Double),
        Column("last_used", Double),
        *_bounds(),
    )


def _tokens() -> None:
    op.create_table(
        "signing_keys",
        Column("kid", Text, primary_key=True),
        Column("secret", Text, nullable=False),
        Column("created", Double, nullable=False),
        Column("retires", Double, nullable=False),
    )
    op.create_table(
        "revoked_tokens",
        Column("jti", Text, primary_key=True),
        Column("expires", Double, nullable=False, index=True),
    )


def _budgets() -> None:
    number = BigInteger().with_variant(Integer, "sqlite")
    op.create_table(
        "budgets",
        Column("id", number, primary_key=True, autoincrement=True),
        Column("level", Text, nullable=False),
        Column("account", Text, nullable=False),
        Column("period", Text, nullable=False),
        Column("unit", Text, nullable=False),
        Column("limit_amount", BigInteger, nullable=False),
        Column("spent", BigInteger, nullable=False),
        Column("reserved", BigInteger, nullable=False),
        Column("window_start", BigInteger, nullable=False),
        sa.UniqueConstraint("level", "account", "unit", "period"),
        sa.CheckConstraint("period IN ('day', 'month')", name="period"),
        sa.CheckConstraint("unit IN ('tokens', 'nanos')", name="unit"),
        sa.CheckConstraint("limit_amount >= 0 AND reserved >= 0 AND spent >= 0", name="amounts"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "reservations",
        Column("id", Text, primary_key=True),
        Column("budget_id", number, ForeignKey("budgets.id"), primary_key=True, index=True),
        Column("amount", BigInteger, nullable=False),
        Column("window_start", BigInteger, nullable=False),
        Column("expires", BigInteger, nullable=False, index=True),
    )


def _usage() -> None:
    op.create_table(
        "usage",
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
    )
    for column in ("tenant", "user_name", "key_id"):
        op.create_index(f"ix_usage_{column}_at", "usage", [column, "at"])


def _audit() -> None:
    op.create_table(
        "audit",
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("at", Double, nullable=False, index=True),
        Column("action", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("target", Text, nullable=False),
        Column("outcome", Text, nullable=False),
        Column("address", Text, nullable=False),
        Column("request_id", Text, nullable=False),
        Column("details", Text, nullable=False),
        Column("previous", Text, nullable=False, unique=True),
        Column("digest", Text, nullable=False),
    )
    head = op.create_table(
        "audit_head",
        Column("one", Integer, primary_key=True, autoincrement=False),
        Column("id", BigInteger, nullable=False),
        Column("digest", Text, nullable=False),
        sa.CheckConstraint("one = 1", name="one"),
    )
    op.bulk_insert(head, [{"one": 1, "id": 0, "digest": ""}])
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    for trigger in SQLITE_TRIGGERS if on_sqlite else POSTGRES_TRIGGERS:
        op.execute(trigger)
