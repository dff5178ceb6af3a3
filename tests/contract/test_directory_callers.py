"""Whom a token stands for: one suite, over SQLite and over a real PostgreSQL."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from forebay.accounts.callers import External
from forebay.accounts.config import default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.people import UserChange
from forebay.accounts.schema import BUDGETS, USERS
from forebay.core.caller import RIGHTS, Bounds, Level, Role
from tests.support.accounts import (
    GOOD,
    SLOW,
    WIDE,
    WallClock,
    a_database,
    a_directory,
    key_of,
)


def test_a_token_stands_for_its_user(directory: Directory) -> None:
    directory.create_user("alice", role=Role.OPERATOR, tenant="acme", bounds=SLOW)
    caller = directory.caller_of_user("alice", issued=0.0)
    assert caller is not None
    assert (caller.user, caller.tenant, caller.key_id) == ("alice", "acme", "")
    assert caller.rights == RIGHTS[Role.OPERATOR]
    assert [(each.level, each.id, each.bounds) for each in caller.accounts] == [
        (Level.USER, "alice", SLOW),
        (Level.TENANT, "acme", Bounds()),
    ]


@pytest.mark.parametrize(
    "change",
    [
        UserChange(password=GOOD),
        UserChange(role=Role.USER),
        UserChange(tenant="other"),
        UserChange(disabled=False),
    ],
)
def test_a_token_from_before_a_change_is_void(
    directory: Directory, clock: WallClock, change: UserChange
) -> None:
    directory.create_user("alice", role=Role.ADMIN)
    assert directory.caller_of_user("alice", clock.now - 1.0) is not None
    directory.change_user("alice", change)
    assert directory.caller_of_user("alice", clock.now - 1.0) is None
    assert directory.caller_of_user("alice", clock.now) is not None


def test_new_bounds_leave_tokens_as_they_are(directory: Directory, clock: WallClock) -> None:
    directory.create_user("alice")
    directory.change_user("alice", UserChange(bounds=SLOW))
    assert directory.caller_of_user("alice", clock.now - 1.0) is not None


def test_all_tokens_of_a_user_are_ended_at_once(directory: Directory, clock: WallClock) -> None:
    directory.create_user("alice")
    directory.end_tokens("alice")
    assert directory.caller_of_user("alice", clock.now - 1.0) is None


def test_who_is_disabled_has_no_token(directory: Directory) -> None:
    directory.create_user("alice", tenant="acme")
    directory.change_tenant("acme", disabled=True)
    assert directory.caller_of_user("alice") is None
    assert directory.caller_of_user("nobody") is None


def external(**facts: Any) -> External:
    default = External(name="oidc:1234", tenant="acme", role=Role.USER, issued=1.0)
    return replace(default, **facts)


def test_an_issuers_user_needs_no_row_and_takes_the_bounds_of_its_tenant(
    directory: Directory,
) -> None:
    directory.create_tenant("acme", WIDE)
    caller = directory.caller_of_external(external())
    assert caller is not None
    assert (caller.user, caller.tenant, caller.rights) == ("oidc:1234", "acme", RIGHTS[Role.USER])
    assert [(each.level, each.id, each.bounds) for each in caller.accounts] == [
        (Level.USER, "oidc:1234", Bounds()),
        (Level.TENANT, "acme", WIDE),
    ]
    assert directory.caller_of_external(external(tenant="unheard-of")) is not None


def test_an_issuers_user_may_be_bounded_and_disabled_by_a_row(directory: Directory) -> None:
    directory.create_user("oidc:1234", tenant="acme", bounds=SLOW)
    caller = directory.caller_of_external(external())
    assert caller is not None
    assert caller.accounts[0].bounds == SLOW
    directory.end_tokens("oidc:1234")
    assert directory.caller_of_external(external()) is None
    assert directory.caller_of_external(external(issued=2e9)) is not None
    directory.change_user("oidc:1234", UserChange(disabled=True))
    assert directory.caller_of_external(external(issued=3e9)) is None


def test_an_issuers_user_ends_with_its_tenant(directory: Directory) -> None:
    directory.create_tenant("acme")
    directory.change_tenant("acme", disabled=True)
    assert directory.caller_of_external(external()) is None


def test_a_role_of_a_newer_version_may_nothing(tmp_path: Path) -> None:
    with a_database(default_url(tmp_path)) as database:
        directory = a_directory(database)
        directory.create_user("alice")
        _, text = key_of(directory)
        with database.writing() as connection:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            connection.execute(sa.update(USERS).values(role="emperor"))
        for caller in (directory.caller_of_key(text, 0.0), directory.caller_of_user("alice")):
            assert caller is not None
            assert caller.rights == frozenset()


def test_a_budget_is_that_of_one_level_though_another_has_the_same_name(
    directory: Directory, database: Database
) -> None:
    directory.create_user("alice")  # and a tenant of that name
    text = key_of(directory)[1]
    budget = {"level": "tenant", "account": "alice", "unit": "tokens", "period": "day"}
    amounts = dict.fromkeys(("limit_amount", "spent", "reserved", "window_start"), 0)
    with database.writing() as connection:
        connection.execute(sa.insert(BUDGETS), budget | amounts)
    external = External(name="alice", tenant="alice", role=Role.USER, issued=2e9)
    for caller in (
        directory.caller_of_user("alice", 2e9),
        directory.caller_of_key(text, 1e9),
        directory.caller_of_external(external),
    ):
        assert caller is not None
        assert {each.level for each in caller.accounts if each.budgeted} == {Level.TENANT}
