"""`/auth` over HTTP, on real accounts: a token for a password, and nothing for anybody else."""

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from forebay.accounts.audit_event import AuditEvent
from forebay.accounts.config import default_url
from forebay.accounts.denylist import Denylist
from forebay.accounts.directory import Directory
from forebay.accounts.passwords import Passwords
from forebay.accounts.people import UserChange
from forebay.accounts.signing_keys import SigningKeys
from forebay.accounts.token_config import TokensConfig
from forebay.accounts.tokens import InvalidToken, Tokens
from forebay.core.caller import Caller, Role
from forebay.core.clock import MONOTONIC
from forebay.gateway.auth import Auth
from forebay.gateway.edge import Gateway
from forebay.serve.clerks import Clerks
from forebay.serve.credentials import AccessConfig, Credentials
from forebay.serve.hashing import Hashing
from forebay.serve.login import Login, LoginParts, LoginResult
from forebay.serve.login_config import LoginConfig
from tests.support.accounts import a_database, quick
from tests.support.asgi import Exchange, ask
from tests.support.gateways import a_stage

LOGIN, LOGOUT, PASSWORD, ME = "/auth/login", "/auth/logout", "/auth/password", "/auth/me"
RIGHT, NEW = "correct horse 7 battery", "another staple 42 of hers"


@dataclass
class Site:
    """A gateway in closed mode on a database of its own, with `alice` and disabled `mallory`."""

    gateway: Gateway
    directory: Directory
    login: Login
    hashing: Hashing
    errors: list[str | None]
    noted: list[AuditEvent] = field(default_factory=list)
    address: str = "192.0.2.1"

    async def ask(self, method: str, path: str, body: Any = None, token: str = "") -> Exchange:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await ask(self.gateway, method, path, body, **headers)

    async def log_in(self, username: str = "alice", password: str = RIGHT) -> Exchange:
        return await self.ask("POST", LOGIN, {"username": username, "password": password})

    async def token(self, password: str = RIGHT) -> str:
        answer = await self.log_in(password=password)
        assert answer.status == 200, answer.content
        return str(answer.json["access_token"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    url = default_url(tmp_path)
    with a_database(url) as database:
        config = TokensConfig()
        directory = Directory(database, quick(url), now=time.time)
        directory.create_user("alice", password=RIGHT)
        directory.create_user("mallory", password=RIGHT)
        directory.change_user("mallory", UserChange(disabled=True))
        denylist = Denylist(database)
        tokens = Tokens(SigningKeys(database, config), denylist, config)
        clerks = Clerks(threads=1, asked_max=64)
        credentials = Credentials(
            partial(_find, directory, tokens),
            AccessConfig(mode="closed"),
            clerks=clerks,
            now=MONOTONIC,
            wall=time.time,
        )
        settings = LoginConfig(hashing_burst_s=600.0)
        hashing = Hashing(settings, MONOTONIC)
        noted: list[AuditEvent] = []
        parts = LoginParts(
            directory=directory,
            passwords=Passwords(quick(url)),
            tokens=tokens,
            denylist=denylist,
            hashing=hashing,
            clerks=clerks,
            note=noted.append,
            changed=credentials.forget,
        )
        login = Login(parts, settings, now=MONOTONIC, wall=time.time)
        stage = a_stage(credentials=credentials)
        made = Site(
            gateway=stage.gateway,
            directory=directory,
            login=login,
            hashing=hashing,
            errors=[],
            noted=noted,
        )
        auth = Auth(login, address_of=lambda _: made.address)
        hooks = (*stage.gateway.hooks, lambda record: made.errors.append(record.error))
        made.gateway = dataclasses.replace(stage.gateway, extra=auth.endpoints(), hooks=hooks)
        yield made
        hashing.close()
        clerks.close()


def _find(directory: Directory, tokens: Tokens, text: str) -> Caller | None:
    try:
        claims = tokens.verify(text, time.time())
        caller = directory.caller_of_user(claims.user, claims.issued)
    except InvalidToken:
        return None
    if caller is None:
        return None
    return dataclasses.replace(caller, token_id=claims.token_id, expires=claims.expires)


async def test_a_password_gets_a_token_that_opens_what_its_user_may(site: Site) -> None:
    answer = await site.log_in()
    assert answer.status == 200
    assert set(answer.json) == {"access_token", "token_type", "expires_in"}
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("bearer", 3_599)
    token = answer.json["access_token"]
    me = await site.ask("GET", ME, token=token)
    assert me.json["user"] == "alice"
    assert me.json["rights"] == ["infer", "read", "usage"]
    assert me.json["key_id"] is None
    assert me.json["expires_at"] == pytest.approx(time.time() + 3_600, abs=10)
    assert (await site.ask("GET", "/v1/models", token=token)).status == 200


async def test_nobody_can_tell_a_wrong_password_from_a_user_that_is_not_there(site: Site) -> None:
    heads, bodies = [], []
    for username in ("alice", "nobody", "mallory", "no such name; --", "\u2603"):
        answer = await site.log_in(username, "wrong password")
        heads.append({**answer.headers, "x-request-id": ""})
        body = answer.json
        bodies.append({**body, "request_id": ""})
        assert len(body["request_id"]) == 24
    assert all(head == heads[0] for head in heads)
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0]["detail"] == "The username or the password is wrong."
    assert heads[0]["www-authenticate"] == "Bearer"
    assert heads[0]["content-type"] == "application/problem+json"
    assert site.hashing.done == 5


async def test_who_fails_too_often_is_told_when_to_come_back(site: Site) -> None:
    for _ in range(5):
        assert (await site.log_in(password="wrong password")).status == 401
    answer = await site.log_in()
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) == 1
    assert answer.json["code"] == "rate_limit_exceeded"
    site.address = "198.51.100.7"
    assert (await site.log_in()).status == 200


async def test_logging_out_ends_that_token_and_no_other(site: Site) -> None:
    first, second = await site.token(), await site.token()
    assert (await site.ask("GET", ME, token=first)).status == 200
    answer = await site.ask("POST", LOGOUT, token=first)
    assert (answer.status, answer.json) == (200, {"status": "logged out"})
    assert (await site.ask("GET", ME, token=first)).status == 401
    assert (await site.ask("POST", LOGOUT, token=first)).status == 401
    assert (await site.ask("GET", ME, token=second)).status == 200


async def test_a_new_password_ends_every_token_and_the_old_password(site: Site) -> None:
    first, second = await site.token(), await site.token()
    answer = await site.ask("POST", PASSWORD, {"current": RIGHT, "new": NEW}, token=first)
    assert (answer.status, answer.json["status"]) == (200, "changed; log in again")
    assert (await site.ask("GET", ME, token=first)).status == 401
    assert (await site.ask("GET", ME, token=second)).status == 401
    assert (await site.log_in()).status == 401
    assert (await site.ask("GET", ME, token=await site.token(NEW))).status == 200


async def test_a_password_is_not_changed_without_the_current_one_or_to_a_weak_one(
    site: Site,
) -> None:
    token = await site.token()
    for current, new, status in (("wrong password", NEW, 401), (RIGHT, "Password1234!", 400)):
        answer = await site.ask("POST", PASSWORD, {"current": current, "new": new}, token=token)
        assert answer.status == status
    assert (await site.log_in()).status == 200


async def test_disabling_a_user_ends_its_tokens(site: Site) -> None:
    token = await site.token()
    site.directory.change_user("alice", UserChange(disabled=True))
    assert (await site.ask("GET", ME, token=token)).status == 401
    assert (await site.log_in()).status == 401


async def test_another_role_holds_for_tokens_that_are_issued_after_it(site: Site) -> None:
    site.directory.change_user("alice", UserChange(role=Role.ADMIN))
    await asyncio.sleep(0.002)
    me = await site.ask("GET", ME, token=await site.token())
    assert "admin" in me.json["rights"]


@pytest.mark.parametrize("path", [LOGOUT, PASSWORD])
async def test_what_needs_a_token_is_open_to_nobody_else(site: Site, path: str) -> None:
    for token in ("", "x", "a.b.c", "fb_live_nothing"):
        assert (await site.ask("POST", path, {}, token=token)).status == 401
    assert (await site.ask("GET", ME)).status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"alice"',
        b"{}",
        b'{"username":"alice"}',
        b'{"username":"alice","password":87654321}',
        b'{"username":["alice"],"password":"hunter87654321"}',
        b'{"username":"alice","password":"hunter87654321","more":"87654321"}',
        b'{"username":"alice","password":"\\ud800"}',
        b'{"username":"alice","password":"\xff87654321"}',
        b'{"username":"","password":"87654321"}',
        b'{"username":"alice","password":"' + b"87654321" * 40 + b'"}',
        b'{"username":"' + b"87654321" * 20 + b'","password":"x"}',
        b"[" * 4_000,
    ],
)
async def test_a_body_of_another_shape_is_refused_in_words_that_hold_nothing_of_it(
    site: Site, body: bytes
) -> None:
    answer = await site.ask("POST", LOGIN, body)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"87654321" not in answer.content
    assert all("87654321" not in (error or "") for error in site.errors)
    assert site.hashing.done == 0


async def test_a_large_body_and_another_type_are_refused(site: Site) -> None:
    large = b'{"username":"alice","password":"' + b"x" * 5_000 + b'"}'
    assert (await site.ask("POST", LOGIN, large)).status == 413
    form = "application/x-www-form-urlencoded"
    body = b"username=alice&password=secret"
    assert (await ask(site.gateway, "POST", LOGIN, body, content_type=form)).status == 415
    assert (await site.ask("GET", LOGIN)).status == 405


async def test_neither_passwords_nor_tokens_are_written_down(site: Site) -> None:
    token = await site.token()
    await site.log_in(password="a wrong secret")
    await site.ask("POST", PASSWORD, {"current": RIGHT, "new": NEW}, token=token)
    written = repr((site.noted, site.errors, site.login.results))
    for secret in (RIGHT, NEW, "a wrong secret", token, token.split(".")[2]):
        assert secret not in written
    assert [event.action.value for event in site.noted] == ["login", "login", "password.changed"]


async def test_attempts_are_counted_by_how_they_ended(site: Site) -> None:
    await site.log_in()
    for _ in range(6):
        await site.log_in("bob", "wrong password")
    assert site.login.results == {
        LoginResult.OK: 1,
        LoginResult.WRONG: 5,
        LoginResult.BACKED_OFF: 1,
        LoginResult.OVERLOADED: 0,
        LoginResult.AWAY: 0,
    }
