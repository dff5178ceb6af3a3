"""Logged out tokens: at once here, at the next look elsewhere, and nothing kept for ever."""

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from forebay.accounts.database import Database
from forebay.accounts.denylist import Denylist
from forebay.accounts.schema import REVOKED_TOKENS
from forebay.accounts.token_config import LEEWAY_S_MAX
from tests.support.accounts import a_database
from tests.support.tokens import NOW


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    with a_database(accounts_url) as database:
        yield database


def rows(database: Database) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(REVOKED_TOKENS)).scalar_one()


def test_a_token_is_revoked_here_and_in_every_gateway_that_looks(database: Database) -> None:
    here, there = Denylist(database), Denylist(database)
    assert not there.has("t1", NOW)
    here.revoke("t1", NOW + 60.0, NOW)
    assert here.knows("t1")
    assert not there.knows("t1")
    assert there.has("t1", NOW)
    assert there.knows("t1")
    assert not there.has("t2", NOW)


def test_logging_out_twice_is_no_error(database: Database) -> None:
    here, there = Denylist(database), Denylist(database)
    here.revoke("t1", NOW + 60.0, NOW)
    here.revoke("t1", NOW + 60.0, NOW)
    there.revoke("t1", NOW + 60.0, NOW)
    assert rows(database) == 1


def test_tokens_that_have_ended_by_themselves_are_deleted(database: Database) -> None:
    denylist = Denylist(database)
    for number in range(10):
        denylist.revoke(f"old{number}", NOW + 60.0, NOW)
    denylist.revoke("new", NOW + 600.0, NOW + 130.0)
    assert rows(database) == 1


def test_what_is_forgotten_is_asked_for_again(database: Database) -> None:
    denylist = Denylist(database, remembered_max=3)
    for number in range(10):
        denylist.revoke(f"t{number}", NOW + 60.0, NOW)
    assert sum(denylist.knows(f"t{number}") for number in range(10)) == 3
    assert all(denylist.has(f"t{number}", NOW) for number in range(10))


@pytest.mark.parametrize("token_id", ["'; DROP TABLE revoked_tokens; --", "%", "", "\u2603"])
def test_an_id_is_a_parameter_and_never_a_statement(database: Database, token_id: str) -> None:
    denylist = Denylist(database)
    assert not denylist.has(token_id, NOW)
    denylist.revoke(token_id, NOW + 60.0, NOW)
    assert Denylist(database).has(token_id, NOW)
    assert not Denylist(database).has("another", NOW)


def test_a_token_that_has_ended_is_denied_for_as_long_as_clocks_may_be_off(
    database: Database,
) -> None:
    one, two = Denylist(database), Denylist(database)
    one.revoke("t1", NOW, NOW - 10.0)
    one.revoke("t2", NOW + 600.0, NOW + LEEWAY_S_MAX - 1.0)
    assert two.has("t1", NOW + LEEWAY_S_MAX - 1.0)
    one.revoke("t3", NOW + 600.0, NOW + LEEWAY_S_MAX)
    assert not Denylist(database).has("t1", NOW + LEEWAY_S_MAX)
