"""Users, tenants and passwords: one suite, over SQLite and over a real PostgreSQL."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from forebay.accounts.callers import External
from forebay.accounts.config import RowRefused
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.passwords import Passwords
from forebay.accounts.people import NewKey, UserChange
from forebay.accounts.schema import TENANTS, USERS
from forebay.core.caller import Bounds, Rate, Role
from tests.support.accounts import (
    GOOD,
    SLOW,
    WIDE,
    WallClock,
    a_directory,
    key_of,
    quick,
    refusal,
)

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


def test_an_admin_is_made_though_there_are_other_users(directory: Directory) -> None:
    directory.create_user("ann")
    assert directory.first_admin() is not None
    assert directory.user("admin").role is Role.ADMIN


@pytest.mark.parametrize("disabled", [False, True])
def test_no_admin_is_made_where_there_was_one(directory: Directory, *, disabled: bool) -> None:
    directory.create_user("ann", role=Role.ADMIN)
    directory.change_user("ann", UserChange(disabled=disabled))
    assert directory.first_admin() is None
    assert [user.name for user in directory.users()] == ["ann"]


def test_somebody_elses_name_is_not_taken_for_the_admin(directory: Directory) -> None:
    directory.create_user("admin", role=Role.USER)
    assert directory.first_admin() is None
    assert directory.user("admin").role is Role.USER


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


def test_a_role_is_one_of_those_there_are(directory: Directory, database: Database) -> None:
    for role in Role:
        directory.create_user(f"a-{role}", role=role)
    with pytest.raises(RowRefused), database.writing() as connection:
        connection.execute(sa.update(USERS).values(role="emperor"))


def test_a_user_whose_weak_password_was_changed_for_another_is_not_weak_any_more(
    directory: Directory, database: Database, clock: WallClock
) -> None:
    developer = a_directory(database, clock=clock, dev=True)
    developer.create_user("alice", password="password")
    developer.keep_password("alice", "the same, hashed anew")
    assert directory.weak_users() == ["alice"]
    directory.keep_password("alice", "another, hashed", ends_tokens=True)
    assert directory.weak_users() == []


def test_no_page_is_longer_than_a_thousand_however_much_is_asked_for(
    database: Database, directory: Directory
) -> None:
    names = [f"t{number:04}" for number in range(1_001)]
    tenants = [{"name": name, "disabled": False, "created": 1.0} for name in names]
    account = {"role": "user", "password": "", "weak": False, "tokens_from": 0.0}
    users = [{**each, **account, "tenant": each["name"]} for each in tenants]
    with database.writing() as connection:
        connection.execute(sa.insert(TENANTS), tenants)
        connection.execute(sa.insert(USERS), users)
    assert [each.name for each in directory.tenants(count=5_000)] == names[:1_000]
    assert [each.name for each in directory.users(count=5_000)] == names[:1_000]
    assert [each.name for each in directory.tenants(names[998], 2)] == names[999:]


def test_a_user_who_is_disabled_is_no_weak_one(database: Database, directory: Directory) -> None:
    developer = a_directory(database, dev=True)
    developer.create_user("alice", password="changeme")
    developer.create_user("bob", password="changeme")
    directory.change_user("alice", UserChange(disabled=True))
    assert directory.weak_users() == ["bob"]
    directory.change_user("alice", UserChange(disabled=False))
    assert directory.weak_users() == ["alice", "bob"]
