"""Rows of tenants and users: what is asked and changed inside somebody's transaction."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from forebay.accounts.people import Tenant, User, bounds_of
from forebay.accounts.schema import TENANTS, USERS
from forebay.core.caller import Role
from forebay.core.errors import Invalid

_NAME: Final[BindParameter[str]] = bindparam("name_is")
_TENANT: Final = select(TENANTS).where(TENANTS.c.name == _NAME)
_USER: Final = select(USERS).where(USERS.c.name == _NAME)
_TENANT_PAGE: Final = (
    select(TENANTS)
    .where(TENANTS.c.name > bindparam("after"))
    .order_by(TENANTS.c.name)
    .limit(bindparam("count"))
)
_USER_PAGE: Final = (
    select(USERS)
    .where(USERS.c.name > bindparam("after"))
    .order_by(USERS.c.name)
    .limit(bindparam("count"))
)


def find_tenant(connection: Connection, name: str, *, lock: bool = False) -> Tenant:
    """Return a tenant, or raise Invalid with 404; `lock`: nobody changes it meanwhile."""
    statement = _TENANT.with_for_update() if lock else _TENANT
    row = connection.execute(statement, {"name_is": name}).mappings().first()
    if row is None:
        raise Invalid("No tenant has this name.", param="tenant", status=404)
    return _tenant(row)


def tenant_page(connection: Connection, after: str, count: int) -> list[Tenant]:
    """Return tenants whose names come after one, in order."""
    rows = connection.execute(_TENANT_PAGE, {"after": after, "count": count}).mappings()
    return [_tenant(row) for row in rows]


def put_tenant(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a tenant; RowRefused if there is one of this name."""
    connection.execute(insert(TENANTS), row)


def ensure_tenant(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a tenant unless there is one of this name, whoever else does so at the same time."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(TENANTS).on_conflict_do_nothing(), row)


def change_tenant(connection: Connection, name: str, row: Mapping[str, Any]) -> None:
    """Change columns of a tenant."""
    connection.execute(update(TENANTS).where(TENANTS.c.name == _NAME), {**row, "name_is": name})


def find_user(connection: Connection, name: str, *, lock: bool = False) -> User:
    """Return a user, or raise Invalid with 404; `lock`: nobody changes it meanwhile."""
    statement = _USER.with_for_update() if lock else _USER
    row = connection.execute(statement, {"name_is": name}).mappings().first()
    if row is None:
        raise Invalid("No user has this name.", param="user", status=404)
    return _user(row)


def user_page(connection: Connection, after: str, count: int) -> list[User]:
    """Return users whose names come after one, in order."""
    rows = connection.execute(_USER_PAGE, {"after": after, "count": count}).mappings()
    return [_user(row) for row in rows]


def put_user(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a user; RowRefused if there is one of this name, or no such tenant."""
    connection.execute(insert(USERS), row)


def change_user(connection: Connection, name: str, row: Mapping[str, Any]) -> None:
    """Change columns of a user."""
    connection.execute(update(USERS).where(USERS.c.name == _NAME), {**row, "name_is": name})


def count_users(connection: Connection) -> int:
    """Return how many users there are."""
    found = connection.execute(select(func.count()).select_from(USERS)).scalar_one()
    return int(found)


def has_admin(connection: Connection) -> bool:
    """Whether any user, disabled or not, is an admin."""
    statement = select(USERS.c.name).where(USERS.c.role == Role.ADMIN.value).limit(1)
    return connection.execute(statement).first() is not None


def password_of(connection: Connection, name: str) -> str | None:
    """Return what is kept of a user's password; None: no such user, or it may not log in."""
    statement = (
        select(USERS.c.password)
        .join(TENANTS, TENANTS.c.name == USERS.c.tenant)
        .where(USERS.c.name == _NAME, ~USERS.c.disabled, ~TENANTS.c.disabled)
    )
    found: str | None = connection.execute(statement, {"name_is": name}).scalar()
    return found or None


def weak_users(connection: Connection, count: int) -> list[str]:
    """Return the names of users whose password was let in though everybody knows it."""
    statement = (
        select(USERS.c.name)
        .where(USERS.c.weak, ~USERS.c.disabled, USERS.c.password != "")
        .order_by(USERS.c.name)
        .limit(count)
    )
    return list(connection.execute(statement).scalars())


def _tenant(row: Mapping[Any, Any]) -> Tenant:
    return Tenant(
        name=row["name"],
        bounds=bounds_of(row),
        disabled=row["disabled"],
        created=row["created"],
    )


def _user(row: Mapping[Any, Any]) -> User:
    return User(
        name=row["name"],
        tenant=row["tenant"],
        role=Role(row["role"]),
        bounds=bounds_of(row),
        disabled=row["disabled"],
        created=row["created"],
        has_password=row["password"] != "",
        weak_password=row["weak"],
    )
