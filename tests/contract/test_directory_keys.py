"""API keys: one suite, over SQLite and over a real PostgreSQL."""

import contextlib
import math
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from forebay.accounts import api_key
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.people import UserChange
from forebay.accounts.schema import API_KEYS, BUDGETS
from forebay.core.caller import RIGHTS, Bounds, Level, Right, Role
from forebay.core.errors import Invalid
from tests.support.accounts import (
    SLOW,
    WIDE,
    WallClock,
    a_database,
    a_directory,
    key_of,
    refusal,
)


def test_a_key_stands_for_its_user_with_all_that_it_is_charged_to(
    directory: Directory, database: Database
) -> None:
    directory.create_tenant("acme", WIDE)
    directory.create_user("alice", tenant="acme", bounds=SLOW)
    id, text = key_of(directory, models=frozenset({"small"}), expires=2e9)
    budget = {"level": "user", "account": "alice", "unit": "tokens", "period": "day"}
    amounts = dict.fromkeys(("limit_amount", "spent", "reserved", "window_start"), 0)
    with database.writing() as connection:
        connection.execute(sa.insert(BUDGETS), budget | amounts)
    caller = directory.caller_of_key(text, 1e9)
    assert caller is not None
    assert (caller.user, caller.tenant, caller.key_id) == ("alice", "acme", id)
    assert (caller.models, caller.expires) == (frozenset({"small"}), 2e9)
    assert caller.rights == RIGHTS[Role.USER]
    found = [(each.level, each.id, each.bounds, each.budgeted) for each in caller.accounts]
    assert found == [
        (Level.KEY, id, Bounds(), False),
        (Level.USER, "alice", SLOW, True),
        (Level.TENANT, "acme", WIDE, False),
    ]


def test_a_keys_text_is_kept_nowhere(directory: Directory, database: Database) -> None:
    directory.create_user("alice")
    _, text = key_of(directory)
    with database.reading() as connection:
        rows = connection.execute(sa.select(API_KEYS)).all()
    assert text not in repr(rows)
    assert text[18:46] not in repr(rows)
    assert api_key.digest(text) in repr(rows)


def test_a_key_that_differs_in_one_letter_opens_nothing(directory: Directory) -> None:
    directory.create_user("alice")
    id, _ = key_of(directory)
    assert directory.caller_of_key(api_key.make(id).text, 0.0) is None
    assert directory.caller_of_key(api_key.make().text, 0.0) is None


def test_a_key_ends_at_its_time(directory: Directory) -> None:
    directory.create_user("alice")
    _, text = key_of(directory, expires=1_000.0)
    assert directory.caller_of_key(text, 999.9) is not None
    assert directory.caller_of_key(text, 1_000.0) is None


@pytest.mark.parametrize(
    "end",
    [
        lambda directory, id: directory.revoke_key(id),
        lambda directory, _: directory.change_user("alice", UserChange(disabled=True)),
        lambda directory, _: directory.change_tenant("acme", disabled=True),
    ],
)
def test_a_key_ends_with_its_revocation_its_user_and_its_tenant(
    directory: Directory, end: Callable[[Directory, str], object]
) -> None:
    directory.create_user("alice", tenant="acme")
    id, text = key_of(directory)
    assert directory.caller_of_key(text, 0.0) is not None
    end(directory, id)
    assert directory.caller_of_key(text, 0.0) is None


def test_a_revoked_key_stays_revoked_since_when_it_was(
    directory: Directory, clock: WallClock
) -> None:
    directory.create_user("alice")
    id, _ = key_of(directory)
    first = directory.revoke_key(id)
    clock.now += 100.0
    assert directory.revoke_key(id) == first
    assert refusal(lambda: directory.rotate_key(id, 0.0)).status == 409


def test_scopes_are_a_choice_of_the_users_rights(directory: Directory) -> None:
    directory.create_user("alice", role=Role.OPERATOR)
    _, text = key_of(directory, scopes=frozenset({Right.INFER, Right.METRICS}))
    caller = directory.caller_of_key(text, 0.0)
    assert caller is not None
    assert caller.rights == {Right.INFER, Right.METRICS}
    directory.change_user("alice", UserChange(role=Role.USER))
    lesser = directory.caller_of_key(text, 0.0)
    assert lesser is not None
    assert lesser.rights == {Right.INFER}


@pytest.mark.parametrize("scopes", [{Right.ADMIN}, {Right.INFER, Right.OPERATE}, set()])
def test_no_key_may_more_than_its_user(directory: Directory, scopes: set[Right]) -> None:
    directory.create_user("alice")
    assert refusal(lambda: key_of(directory, scopes=frozenset(scopes))).param == "scopes"


def test_no_key_is_an_admins_unless_that_is_asked_for(directory: Directory) -> None:
    directory.create_user("alice", role=Role.ADMIN)
    id, _ = key_of(directory)
    assert Right.ADMIN not in directory.key(id).scopes
    other, _ = key_of(directory, scopes=frozenset({Right.ADMIN}))
    assert directory.key(other).scopes == {Right.ADMIN}


def test_a_scope_of_a_newer_version_means_nothing(directory: Directory, database: Database) -> None:
    directory.create_user("alice")
    _, text = key_of(directory)
    with database.writing() as connection:
        connection.execute(sa.update(API_KEYS).values(scopes="infer fly"))
    caller = directory.caller_of_key(text, 0.0)
    assert caller is not None
    assert caller.rights == {Right.INFER}


def test_a_rotated_key_keeps_its_id_and_its_old_text_for_a_while(
    directory: Directory, clock: WallClock
) -> None:
    directory.create_user("alice")
    id, old = key_of(directory, name="laptop")
    before = directory.key(id)
    after, new = directory.rotate_key(id, overlap_s=60.0)
    assert (after.id, after.name, after.old_last4) == (id, "laptop", before.last4)
    found = directory.caller_of_key(old, clock.now + 59.0)
    assert found is not None
    assert (found.key_id, found.expires) == (id, clock.now + 60.0)
    assert directory.caller_of_key(old, clock.now + 60.0) is None
    kept = directory.caller_of_key(new, clock.now + 1e9)
    assert kept is not None
    assert kept.expires == math.inf


def test_a_key_rotated_twice_takes_the_last_two_texts(
    directory: Directory, clock: WallClock
) -> None:
    directory.create_user("alice")
    id, first = key_of(directory)
    _, second = directory.rotate_key(id, overlap_s=60.0)
    _, third = directory.rotate_key(id, overlap_s=60.0)
    opened = [directory.caller_of_key(text, clock.now) for text in (first, second, third)]
    assert [caller is not None for caller in opened] == [False, True, True]


def test_an_old_text_ends_no_later_than_its_key(directory: Directory, clock: WallClock) -> None:
    directory.create_user("alice")
    id, old = key_of(directory, expires=clock.now + 10.0)
    directory.rotate_key(id, overlap_s=60.0)
    assert directory.caller_of_key(old, clock.now + 9.0) is not None
    assert directory.caller_of_key(old, clock.now + 10.0) is None


def test_rotating_without_overlap_ends_the_old_text_at_once(
    directory: Directory, clock: WallClock
) -> None:
    directory.create_user("alice")
    id, old = key_of(directory)
    directory.rotate_key(id, overlap_s=0.0)
    assert directory.caller_of_key(old, clock.now) is None


@pytest.mark.parametrize("overlap_s", [-1.0, math.inf, math.nan, 91 * 86_400.0])
def test_an_overlap_has_bounds(directory: Directory, overlap_s: float) -> None:
    directory.create_user("alice")
    id, _ = key_of(directory)
    assert refusal(lambda: directory.rotate_key(id, overlap_s)).param == "overlap_s"


def test_a_keys_last_use_only_moves_forward(directory: Directory) -> None:
    directory.create_user("alice")
    (one, _), (other, _) = key_of(directory), key_of(directory)
    assert directory.key(one).last_used is None
    directory.touch_keys({one: 100.0, other: 50.0, "0123456789": 7.0})
    directory.touch_keys({one: 90.0, other: 60.0})
    directory.touch_keys({})
    assert (directory.key(one).last_used, directory.key(other).last_used) == (100.0, 60.0)


def test_keys_come_in_pages_of_one_user_or_of_all(directory: Directory) -> None:
    for user in ("alice", "bob"):
        directory.create_user(user)
        for _ in range(3):
            key_of(directory, user=user)
    everybodys = directory.keys()
    assert [key.id for key in everybodys] == sorted(key.id for key in everybodys)
    assert {key.user for key in directory.keys("alice")} == {"alice"}
    first = directory.keys(count=4)
    assert first + directory.keys(after=first[-1].id) == everybodys
    assert directory.keys("carol") == []


def test_keys_of_one_user_are_bounded(database: Database) -> None:
    directory = a_directory(database, keys_max=2)
    directory.create_user("alice")
    first, _ = key_of(directory)
    key_of(directory)
    assert "keys_max" in refusal(lambda: key_of(directory)).message
    directory.revoke_key(first)
    key_of(directory)


def make_keys(url: str) -> None:
    with a_database(url, timeout_s=20.0) as database:
        directory = a_directory(database, keys_max=30)
        for _ in range(20):
            try:
                key_of(directory)
            except Invalid:
                return


def test_processes_that_make_keys_at_once_keep_to_the_bound(
    accounts_url: str, directory: Directory
) -> None:
    directory.create_user("alice")
    spawn = multiprocessing.get_context("spawn")
    makers = [spawn.Process(target=make_keys, args=(accounts_url,)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0]
    assert len(directory.keys("alice", count=100)) == 30


def test_threads_that_make_keys_at_once_keep_to_the_bound(database: Database) -> None:
    directory = a_directory(database, keys_max=3)
    directory.create_user("alice")

    def try_one(_: int) -> bool:
        with contextlib.suppress(Invalid):
            return bool(key_of(directory))
        return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_one, range(16))) == 3
    assert len(directory.keys("alice")) == 3


def test_a_key_is_found_by_one_statement(directory: Directory, database: Database) -> None:
    directory.create_user("alice")
    _, text = key_of(directory)
    asked: list[str] = []
    engine = database._engine
    sa.event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    assert directory.caller_of_key(text, 0.0) is not None
    assert len([each for each in asked if "SELECT" in each]) == 1


def test_a_key_that_was_mistyped_asks_nothing(directory: Directory, database: Database) -> None:
    database.close()
    asked: list[str] = []
    sa.event.listen(database._engine, "checkout", lambda *_: asked.append("a connection"))
    text = api_key.make().text
    assert directory.caller_of_key(text[:-1] + ("0" if text[-1] != "0" else "1"), 0.0) is None
    assert asked == []
