"""How the closed mode starts, whom credentials stand for there, and what is written down."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from forebay import tenancy as module
from forebay.accounts.audit import Audit
from forebay.accounts.audit_event import Action
from forebay.accounts.config import AccountsAway, AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.people import NewKey, UserChange
from forebay.accounts.tokens import Claims, InvalidToken, TokenFault
from forebay.core.caller import RIGHTS, Caller, Role
from forebay.core.errors import Unauthenticated
from forebay.serve.credentials import AccessConfig
from forebay.serve.login import Visit
from forebay.settings import Settings
from forebay.tenancy import Tenancy, TenancyRefused
from scripts.route_access import closed_service
from tests.support.asgi import ask

WEAK, STRONG = "Password123!", "pumpernickel-Vorgarten-88-Ostwind"
FROM = Visit(address="127.0.0.1", request_id="r1")


def settings_of(folder: Path, *, admin_password: str = "", dev: bool = False) -> Settings:
    accounts = AccountsConfig(
        url=default_url(folder), password_memory_bytes=8_388_608, password_passes_min=1
    )
    access = AccessConfig(mode="closed", admin_password=admin_password, dev=dev)
    return Settings(access=access, accounts=accounts)


@contextmanager
def opened(settings: Settings) -> Iterator[Tenancy]:
    found = module.opened(settings, lambda *_, **__: None)
    try:
        yield found
    finally:
        found.hashing.close()
        for clerks in (found.clerks, found.office, found.archive):
            clerks.close()
        found.database.close()


async def test_only_a_password_that_was_made_here_is_shown_and_only_at_the_first_start(
    tmp_path: Path,
) -> None:
    with opened(settings_of(tmp_path)) as first:
        made = first.first_password
        assert made is not None
        assert (await first.login.login("admin", made, FROM)).token
    with opened(settings_of(tmp_path)) as second:
        assert second.first_password is None


async def test_a_password_that_was_given_is_the_administrators_and_is_not_shown(
    tmp_path: Path,
) -> None:
    with opened(settings_of(tmp_path, admin_password=STRONG)) as found:
        assert found.first_password is None
        assert (await found.login.login("admin", STRONG, FROM)).token


def test_a_weak_first_password_refuses_the_start_and_is_not_told_again(tmp_path: Path) -> None:
    with (
        pytest.raises(TenancyRefused, match=r"^access\.admin_password: ") as refused,
        opened(settings_of(tmp_path, admin_password=WEAK)),
    ):
        pass
    assert WEAK not in str(refused.value)


def test_weak_passwords_that_dev_let_in_refuse_every_other_start_by_name(tmp_path: Path) -> None:
    with opened(settings_of(tmp_path, admin_password=WEAK, dev=True)):
        pass
    with pytest.raises(TenancyRefused, match="password of admin, which --dev let in"):
        module.opened(settings_of(tmp_path), lambda *_, **__: None)
    with opened(settings_of(tmp_path, dev=True)) as again:
        assert again.directory.weak_users() == ["admin"]


def test_a_database_that_cannot_be_asked_refuses_the_start_and_is_not_told_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Database) -> None:
        raise AccountsAway

    monkeypatch.setattr(Database, "migrate", away)
    with pytest.raises(TenancyRefused, match="cannot be asked") as refused:
        module.opened(settings_of(tmp_path), lambda *_, **__: None)
    assert str(tmp_path) not in str(refused.value)


class Bearers:
    """Says of every token the same."""

    def __init__(self, found: Claims | Exception) -> None:
        self.found = found

    def verify(self, token: str, now: float) -> Claims:
        assert token == "a.b.c"
        assert abs(now - time.time()) < 60.0
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def found_by(directory: Directory, says: Claims | Exception, given: str = "a.b.c") -> Caller | None:
    return module._Finder(directory, Bearers(says))(given)  # type: ignore[arg-type]  # it verifies


OWN = Claims(user="ann", token_id="t1", issued=2e9, expires=3e9)
EXTERNAL = replace(OWN, user="oidc:bob", tenant="acme", role=Role.OPERATOR)


def test_a_token_stands_for_its_user_until_it_ends(tmp_path: Path) -> None:
    with opened(settings_of(tmp_path)) as found:
        directory = found.directory
        directory.create_user("ann", role=Role.OPERATOR, tenant="acme")
        caller = found_by(directory, OWN)
        assert caller is not None
        assert (caller.user, caller.tenant, caller.key_id) == ("ann", "acme", "")
        assert (caller.token_id, caller.expires) == ("t1", 3e9)
        assert caller.rights == RIGHTS[Role.OPERATOR]
        assert found_by(directory, replace(OWN, issued=1.0)) is not None
        directory.change_user("ann", UserChange(role=Role.USER))
        assert found_by(directory, replace(OWN, issued=1.0)) is None, "it is from before"
        assert found_by(directory, replace(OWN, user="nobody")) is None


def test_a_token_of_an_issuer_stands_for_whom_it_names_though_nobody_made_that_user(
    tmp_path: Path,
) -> None:
    with opened(settings_of(tmp_path)) as found:
        directory = found.directory
        caller = found_by(directory, EXTERNAL)
        assert caller is not None
        assert (caller.user, caller.tenant) == ("oidc:bob", "acme")
        assert (caller.token_id, caller.expires) == ("t1", 3e9)
        assert caller.rights == RIGHTS[Role.OPERATOR]
        directory.create_user("oidc:bob", tenant="acme")
        directory.change_user("oidc:bob", UserChange(disabled=True))
        assert found_by(directory, EXTERNAL) is None


def test_a_token_that_is_not_taken_is_nobodys_and_accounts_that_are_away_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(settings_of(tmp_path)) as found:
        directory = found.directory
        key = directory.create_key(NewKey(user="admin"))[1]
        assert found_by(directory, InvalidToken(TokenFault.SIGNATURE)) is None
        with pytest.raises(AccountsAway):
            found_by(directory, AccountsAway())
        caller = found_by(directory, OWN, key)
        assert caller is not None
        assert caller.user == "admin", "what begins like a key is no token"

        def away(*_: object) -> None:
            raise AccountsAway

        monkeypatch.setattr(Directory, "caller_of_key", away)
        with pytest.raises(AccountsAway):
            found_by(directory, OWN, key)


@pytest.mark.parametrize(
    ("path", "body", "ended"),
    [
        ("/admin/keys/revoke", {"id": "KEY"}, True),
        ("/admin/keys/rotate", {"id": "KEY", "overlap_s": 0}, True),
        ("/admin/users/update", {"name": "ann", "disabled": True}, True),
        ("/admin/tenants/update", {"name": "ann", "disabled": True}, True),
        ("/admin/users/update", {"name": "ann", "role": "operator"}, False),
    ],
)
async def test_what_an_administrator_orders_holds_at_once_however_well_a_key_is_known(
    path: str, body: dict[str, object], ended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with closed_service(tmp_path) as service:
        assert service.tenancy is not None
        directory, credentials = service.tenancy.directory, service.tenancy.credentials
        directory.create_user("ann")
        root = directory.create_key(NewKey(user="admin", scopes=RIGHTS[Role.ADMIN]))[1]
        key, text = directory.create_key(NewKey(user="ann"))
        assert (await credentials.find(text.encode())).user == "ann"
        body = {name: key.id if value == "KEY" else value for name, value in body.items()}
        shown = {"authorization": f"Bearer {root}", "x_request_id": "the-request"}
        answer = await ask(service.gateway, "POST", path, body, **shown)
        assert answer.status == 200
        if ended:
            with pytest.raises(Unauthenticated):
                await credentials.find(text.encode())
        else:
            assert (await credentials.find(text.encode())).rights == RIGHTS[Role.OPERATOR] & set(
                key.scopes
            )
        (_, event) = service.tenancy.auditor._waiting[-1]
        assert (event.actor, event.request_id) == ("admin", "the-request")
        assert event.target in {key.id, "ann"}
        assert event.address not in {"", "local"}


async def test_a_budget_that_is_set_is_asked_at_once_however_well_its_caller_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with closed_service(tmp_path) as service:
        assert service.tenancy is not None
        directory, credentials = service.tenancy.directory, service.tenancy.credentials
        directory.create_user("ann")
        root = directory.create_key(NewKey(user="admin", scopes=RIGHTS[Role.ADMIN]))[1]
        text = directory.create_key(NewKey(user="ann"))[1].encode()
        assert not any(each.budgeted for each in (await credentials.find(text)).accounts)
        body = {"level": "user", "account": "ann", "limit": "5"}
        shown = {"authorization": f"Bearer {root}"}
        assert (await ask(service.gateway, "POST", "/admin/budgets", body, **shown)).status == 200
        assert any(each.budgeted for each in (await credentials.find(text)).accounts)


def test_a_token_of_an_issuer_from_before_its_users_row_was_changed_is_nobodys(
    tmp_path: Path,
) -> None:
    with opened(settings_of(tmp_path)) as found:
        directory = found.directory
        directory.create_user("oidc:bob", tenant="acme")
        old = replace(EXTERNAL, issued=1.0)
        assert found_by(directory, old) is not None
        directory.end_tokens("oidc:bob")
        assert found_by(directory, old) is None
        assert found_by(directory, EXTERNAL) is not None


async def test_who_was_denied_is_in_the_audit_log_of_the_server_as_it_is_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with closed_service(tmp_path) as service:
        assert service.tenancy is not None
        answer = await ask(service.gateway, "GET", "/v1/models", authorization="Bearer x.y.z")
        assert answer.status == 401
        (_, event) = service.tenancy.auditor._waiting[-1]
        assert (event.action, event.target) == (Action.DENIED, "GET /v1/models")
        assert sum(service.tenancy.bearers.refused.values()) == 1


async def test_at_the_end_of_its_work_a_server_writes_what_is_left(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with opened(settings) as found:
        text = found.directory.create_key(NewKey(user="admin"))[1]
        async with found.working():
            await found.credentials.find(text.encode())
    with opened(settings) as again:
        (key,) = again.directory.keys()
        assert key.last_used is not None
        actions = [row.action for row in Audit(again.database).page()]
        assert [each for each in actions if each.startswith("server.")] == [
            "server.stopped",
            "server.started",
        ]


async def test_whoever_logs_out_or_takes_another_password_ends_a_token_at_once(
    tmp_path: Path,
) -> None:
    with opened(settings_of(tmp_path, admin_password=STRONG)) as found:
        login, credentials = found.login, found.credentials
        first, second = [(await login.login("admin", STRONG, FROM)).token for _ in range(2)]
        await credentials.find(second.encode())
        await login.logout(await credentials.find(first.encode()), FROM)
        with pytest.raises(Unauthenticated):
            await credentials.find(first.encode())
        caller = await credentials.find(second.encode())
        await login.change_password(caller, STRONG, f"{STRONG}-neu", visit=FROM)
        with pytest.raises(Unauthenticated):
            await credentials.find(second.encode())


async def test_the_making_of_the_first_administrator_is_in_the_audit_log(tmp_path: Path) -> None:
    with opened(settings_of(tmp_path)) as found:
        async with found.working():
            pass
    with opened(settings_of(tmp_path)) as again:
        rows = Audit(again.database).page()
    made = [row.target for row in rows if row.action == Action.USER_CREATED]
    assert made == ["admin"], "once, however often the server starts"
