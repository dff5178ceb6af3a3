"""Who there is: one suite, over SQLite and over a real PostgreSQL."""

import contextlib
import math
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from forebay.accounts import api_key
from forebay.accounts.callers import External
from forebay.accounts.config import RowRefused, default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.passwords import Passwords
from forebay.accounts.people import NewKey, UserChange
from forebay.accounts.schema import API_KEYS, BUDGETS, USERS
from forebay.core.caller import RIGHTS, Bounds, Level, Rate, Right, Role
from forebay.core.errors import Invalid
from tests.support.accounts import WallClock, a_database, a_directory, quick

GOOD = "violet-harbour-91-kettle"
SLOW = Bounds(requests=Rate(amount=5, period_s=60.0), concurrent=2)
WIDE = Bounds(tokens=Rate(amount=10**12, period_s=86_400.0))
INJECTIONS = (
    "' OR '1'='1",
    "x'; DROP TABLE users; --",
    'x" UNION SELECT password FROM users --',
    "%",
    "_dmin",
    "admin'/*",
    "$1",
    ":name",
    "%(name)s",
    "{name}",
    "nul\0byte",
    "\ud800",
    "",
    "a" * 100_000,
)


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    with a_database(accounts_url, timeout_s=20.0) as database:
        yield database


@pytest.fixture
def directory(database: Database, clock: WallClock) -> Directory:
    return a_directory(database, clock=clock)


def refusal(ask: Callable[[], object]) -> Invalid:
    with pytest.raises(Invalid) as caught:
        ask()
    return caught.value


def key_of(directory: Directory, user: str = "alice", **facts: Any) -> tuple[str, str]:
    key, text = directory.create_key(NewKey(user=user, **facts))
    return key.id, text


# Users and tenants.


def test_a_user_is_found_as_it_was_made(directory: Directory, clock: WallClock) -> None:
    made = directory.create_user("alice", role=Role.OPERATOR, tenant="acme", bounds=SLOW)
    assert directory.user("alice") == made
    assert (made.name, made.tenant, made.role, made.bounds) == (
        *("alice", "acme", Role.OPERATOR),
        SLOW,
    )
    assert (made.created, made.disabled, made.has_password) == (clock.now, False, False)
    assert directory.tenant("acme").bounds == Bounds()


def test_a_user_without_a_tenant_is_its_own(directory: Directory) -> None:
    assert directory.create_user("alice").tenant == "alice"


@pytest.mark.parametrize("name", ["alice", "ALICE"])
def test_no_two_users_differ_in_capitals_only(directory: Directory, name: str) -> None:
    directory.create_user("alice", tenant="acme")
    error = refusal(lambda: directory.create_user(name, tenant="acme"))
    assert (error.status, error.param) == (409, "user")


def test_a_user_refused_for_its_name_leaves_no_tenant_behind(directory: Directory) -> None:
    directory.create_user("alice")
    refusal(lambda: directory.create_user("ALICE", tenant="other"))
    assert refusal(lambda: directory.tenant("other")).status == 404


def test_each_part_of_a_user_is_changed_by_itself(directory: Directory) -> None:
    directory.create_user("alice", bounds=SLOW)
    assert directory.change_user("alice", UserChange(role=Role.ADMIN)).role is Role.ADMIN
    assert directory.change_user("alice", UserChange(tenant="acme")).tenant == "acme"
    assert directory.change_user("alice", UserChange(disabled=True)).disabled
    assert directory.change_user("alice", UserChange(password=GOOD)).has_password
    changed = directory.change_user("alice", UserChange(bounds=WIDE))
    assert (changed.role, changed.tenant, changed.disabled) == (Role.ADMIN, "acme", True)
    assert (changed.bounds, changed.has_password) == (WIDE, True)
    assert directory.change_user("alice", UserChange()) == changed


def test_users_come_in_pages_in_order(directory: Directory) -> None:
    for name in ("carol", "alice", "dave", "bob"):
        directory.create_user(name, tenant="acme")
    assert [user.name for user in directory.users(count=3)] == ["alice", "bob", "carol"]
    assert [user.name for user in directory.users("carol")] == ["dave"]
    assert directory.users("zoe") == []
    assert [tenant.name for tenant in directory.tenants()] == ["acme"]


def test_users_are_bounded(database: Database) -> None:
    directory = a_directory(database, users_max=1)
    directory.create_user("alice")
    assert "users_max" in refusal(lambda: directory.create_user("bob")).message


def test_a_tenant_is_made_changed_and_never_twice(directory: Directory) -> None:
    assert directory.create_tenant("acme", SLOW).bounds == SLOW
    assert refusal(lambda: directory.create_tenant("acme")).status == 409
    changed = directory.change_tenant("acme", bounds=WIDE, disabled=True)
    assert (changed.bounds, changed.disabled) == (WIDE, True)
    assert directory.change_tenant("acme") == changed


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(requests=Rate(amount=0, period_s=1.0)),
        Bounds(tokens=Rate(amount=1, period_s=0.0)),
        Bounds(tokens=Rate(amount=1, period_s=math.inf)),
        Bounds(tokens=Rate(amount=10**16, period_s=1.0)),
        Bounds(concurrent=0),
        Bounds(concurrent=2**31),
    ],
)
def test_bounds_that_nobody_can_have_are_refused(directory: Directory, bounds: Bounds) -> None:
    assert refusal(lambda: directory.create_user("alice", bounds=bounds)).param
    assert refusal(lambda: directory.create_tenant("acme", bounds)).param


@pytest.mark.parametrize("name", [*INJECTIONS, "anonymous"])
def test_hostile_names_are_refused_or_find_nothing(directory: Directory, name: str) -> None:
    directory.create_user("admin", tenant="default")
    before = directory.users()
    assert refusal(lambda: directory.create_tenant(name)).status == 400
    assert refusal(lambda: directory.change_user(name, UserChange(role=Role.ADMIN))).status in {
        *(400, 404)
    }
    if name != "anonymous":
        assert refusal(lambda: directory.create_user(name, tenant="default")).status == 400
        assert refusal(lambda: directory.user(name)).status == 400
        assert refusal(lambda: directory.keys(name)).status == 400
        assert refusal(lambda: directory.create_key(NewKey(user=name))).status == 400
    for ask in (directory.key, directory.revoke_key, lambda id: directory.rotate_key(id, 1.0)):
        assert refusal(lambda ask=ask: ask(name)).status == 404  # type: ignore[misc]
    assert directory.caller_of_user(name) is None
    assert directory.caller_of_key(name, 0.0) is None
    assert directory.password_of(name) is None
    external = External(name=name, tenant=name, role=Role.ADMIN, issued=0.0)
    assert directory.caller_of_external(external) is None
    assert directory.users(name) in (before, [])
    assert directory.keys(after=name) == []
    assert directory.users() == before


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%(x)s :y $1", "日本 ключ"])
def test_hostile_texts_for_people_stay_data(directory: Directory, text: str) -> None:
    directory.create_user("alice")
    id, secret = key_of(directory, name=text, models=frozenset({text}))
    assert directory.key(id).name == text
    caller = directory.caller_of_key(secret, 0.0)
    assert caller is not None
    assert caller.models == frozenset({text})


@pytest.mark.parametrize("text", ["nul\0", "\ud800", "line\nbreak", "\x1b[2J", "a" * 200])
def test_texts_for_people_that_no_terminal_should_show_are_refused(
    directory: Directory, text: str
) -> None:
    directory.create_user("alice")
    assert refusal(lambda: key_of(directory, name=text)).param == "name"
    assert refusal(lambda: key_of(directory, models=frozenset({text}))).param == "models"


# Passwords.


def test_a_password_is_kept_as_argon2id_and_fits_no_other(directory: Directory) -> None:
    directory.create_user("alice", password=GOOD)
    kept = directory.password_of("alice")
    assert kept is not None
    assert kept.startswith("$argon2id$v=19$m=8192,t=1,p=1$")
    assert Passwords(quick("-")).fits(kept, GOOD)
    assert not Passwords(quick("-")).fits(kept, GOOD + "x")


def test_who_may_not_log_in_has_no_password(directory: Directory) -> None:
    directory.create_user("alice", password=GOOD, tenant="acme")
    directory.create_user("robot", tenant="acme")
    assert directory.password_of("robot") is None
    assert directory.password_of("nobody") is None
    directory.change_tenant("acme", disabled=True)
    assert directory.password_of("alice") is None
    directory.change_tenant("acme", disabled=False)
    directory.change_user("alice", UserChange(disabled=True))
    assert directory.password_of("alice") is None
    directory.change_user("alice", UserChange(disabled=False, password=""))
    assert directory.password_of("alice") is None


@pytest.mark.parametrize("password", ["admin123", "changeme", "Password1234!", "alice-alice-alice"])
def test_known_passwords_are_let_in_for_development_only_and_marked(
    database: Database, directory: Directory, password: str
) -> None:
    assert refusal(lambda: directory.create_user("alice", password=password)).param == "password"
    developer = a_directory(database, dev=True)
    assert developer.create_user("alice", password=password).weak_password
    developer.create_user("bob", password=GOOD)
    assert directory.weak_users() == ["alice"]
    refusal(lambda: directory.change_user("alice", UserChange(password=password)))
    directory.change_user("alice", UserChange(password=GOOD))
    assert directory.weak_users() == []


def test_who_logs_in_elsewhere_has_no_password_here(directory: Directory) -> None:
    directory.create_user("oidc:alice", tenant="acme")
    change = UserChange(password=GOOD)
    assert refusal(lambda: directory.change_user("oidc:alice", change)).param == "password"


def test_a_password_that_is_hashed_again_does_not_undo_a_change(directory: Directory) -> None:
    directory.create_user("alice", password=GOOD)
    old = directory.password_of("alice")
    directory.keep_password("alice", "again", instead_of=old)
    assert directory.password_of("alice") == "again"
    directory.change_user("alice", UserChange(password=GOOD + "2"))
    new = directory.password_of("alice")
    directory.keep_password("alice", "too late", instead_of="again")
    assert directory.password_of("alice") == new


def test_the_first_start_makes_an_admin_once(directory: Directory) -> None:
    password = directory.first_admin()
    assert password is not None
    assert Passwords(quick("-")).fits(directory.password_of("admin"), password)
    assert directory.user("admin").role is Role.ADMIN
    assert directory.first_admin() is None


def test_a_first_admin_with_a_known_password_is_refused(
    database: Database, directory: Directory
) -> None:
    assert refusal(lambda: directory.first_admin("admin123")).param == "password"
    assert directory.users() == []
    assert a_directory(database, dev=True).first_admin("admin123") == "admin123"
    assert directory.weak_users() == ["admin"]


def test_of_gateways_that_start_at_once_one_makes_the_admin(directory: Directory) -> None:
    with ThreadPoolExecutor(6) as pool:
        passwords = list(pool.map(lambda _: directory.first_admin(), range(6)))
    (password,) = filter(None, passwords)
    assert Passwords(quick("-")).fits(directory.password_of("admin"), password)


# Keys.


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


# Tokens.


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


def test_a_role_is_one_of_those_there_are(directory: Directory, database: Database) -> None:
    for role in Role:
        directory.create_user(f"a-{role}", role=role)
    with pytest.raises(RowRefused), database.writing() as connection:
        connection.execute(sa.update(USERS).values(role="emperor"))


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
