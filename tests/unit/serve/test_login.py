"""Logins: the same work and words for everybody, and few of them."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from forebay.accounts.audit_event import Action, AuditEvent
from forebay.accounts.config import AccountsAway
from forebay.accounts.tokens import Issued
from forebay.core.caller import Caller
from forebay.core.clock import ManualClock
from forebay.core.errors import (
    Forbidden,
    Invalid,
    Outcome,
    Overloaded,
    RateLimited,
    ServingError,
    Unauthenticated,
)
from forebay.serve.clerks import Clerks
from forebay.serve.hashing import Hashing
from forebay.serve.login import Login, LoginParts, LoginResult, Visit
from forebay.serve.login_config import LoginConfig

WALL = 1_800_000_000.0
HERE = Visit(address="192.0.2.1", request_id="r1")
PASSWORD, NEW = "correct horse 7 battery", "another staple 42 of hers"
CALLER = Caller(tenant="acme", user="alice", token_id="t1", expires=WALL + 60.0)


class World:
    """Everything that a login asks, counting and simple; `alice` is there, `mallory` disabled."""

    def __init__(self, **config: Any) -> None:
        self.kept: dict[str, str] = {"alice": f"hash:{PASSWORD}"}
        self.ended: list[str] = []
        self.revoked: list[tuple[str, float]] = []
        self.looked_up: list[str] = []
        self.checked: list[tuple[str | None, str]] = []
        self.noted: list[AuditEvent] = []
        self.changes = 0
        self.away = False
        self.old = False
        self.hold = threading.Event()
        self.hold.set()
        self.clock = ManualClock(1_000.0)
        settings = LoginConfig(**({"hashing_burst_s": 600.0} | config))
        self.parts = LoginParts(
            directory=self,
            passwords=self,
            tokens=self,
            denylist=self,
            hashing=Hashing(settings, self.clock),
            clerks=Clerks(threads=1, asked_max=1_000),
            note=self.noted.append,
            changed=self.change,
        )
        self.login = Login(self.parts, settings, now=self.clock, wall=lambda: WALL)

    def change(self) -> None:
        self.changes += 1

    def _ask(self) -> None:
        if self.away:
            raise AccountsAway

    def password_of(self, name: str) -> str | None:
        self._ask()
        self.looked_up.append(name)
        return self.kept.get(name)

    def keep_password(
        self, name: str, hashed: str, *, ends_tokens: bool = False, instead_of: str | None = None
    ) -> None:
        self._ask()
        assert instead_of in {None, self.kept[name]}
        assert ends_tokens != (instead_of is not None)
        self.kept[name] = hashed
        self.ended += [name] if ends_tokens else []

    def hashed(self, password: str) -> str:
        return f"hash:{password}"

    def fits(self, kept: str | None, password: str) -> bool:
        assert self.hold.wait(5.0)
        self.checked.append((kept, password))
        return kept == f"hash:{password}"

    def outdated(self, kept: str) -> bool:
        return self.old

    def issue(self, user: str, now: float) -> Issued:
        self._ask()
        return Issued(token=f"token of {user}", expires_in=60, token_id="t")

    def revoke(self, token_id: str, expires: float, now: float) -> None:
        self._ask()
        self.revoked.append((token_id, expires))

    async def fails(self, username: str, password: str, visit: Visit = HERE) -> ServingError:
        with pytest.raises(ServingError) as caught:
            await self.login.login(username, password, visit)
        return caught.value


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.hold.set()
    world.parts.hashing.close()
    world.parts.clerks.close()


async def test_the_right_password_gets_a_token(world: World) -> None:
    token = await world.login.login("alice", PASSWORD, HERE)
    assert (token.token, token.expires_in) == ("token of alice", 60)
    assert world.login.results[LoginResult.OK] == 1


async def test_wrong_unknown_and_disabled_are_told_the_same_in_every_word(world: World) -> None:
    errors = [
        await world.fails("alice", "wrong"),
        await world.fails("nobody", "wrong"),
        await world.fails("mallory", PASSWORD),
        await world.fails("alice'; --", "wrong"),
    ]
    assert all(isinstance(error, Unauthenticated) for error in errors)
    assert len({(error.message, error.status, error.param) for error in errors}) == 1
    assert len({error.retry_after_s for error in errors}) == 1


async def test_wrong_unknown_and_disabled_cost_one_look_up_and_one_hash_each(world: World) -> None:
    for username in ("alice", "nobody", "mallory"):
        before = (len(world.looked_up), len(world.checked), world.parts.hashing.done)
        await world.fails(username, "wrong")
        after = (len(world.looked_up), len(world.checked), world.parts.hashing.done)
        assert [late - early for early, late in zip(before, after, strict=True)] == [1, 1, 1]


async def test_who_fails_too_often_waits_whether_or_not_the_account_exists(world: World) -> None:
    waits = []
    for username in ("alice", "nobody"):
        for _ in range(5):
            assert isinstance(await world.fails(username, "wrong"), Unauthenticated)
        refused = await world.fails(username, "wrong")
        assert isinstance(refused, RateLimited)
        waits.append((refused.retry_after_s, refused.message))
    assert waits[0] == waits[1]
    assert world.login.results[LoginResult.BACKED_OFF] == 2


async def test_a_wait_costs_no_look_up_and_no_hash_and_even_the_right_password_waits(
    world: World,
) -> None:
    for _ in range(5):
        await world.fails("alice", "wrong")
    looked_up, checked = len(world.looked_up), len(world.checked)
    assert isinstance(await world.fails("alice", PASSWORD), RateLimited)
    assert (len(world.looked_up), len(world.checked)) == (looked_up, checked)
    world.clock.advance(1.0)
    await world.login.login("alice", PASSWORD, HERE)


async def test_strangers_elsewhere_do_not_make_the_owner_wait(world: World) -> None:
    await world.login.login("alice", PASSWORD, HERE)
    for number in range(100):
        visit = replace(HERE, address=f"10.0.0.{number}")
        await world.fails("alice", "wrong", visit)
    await world.login.login("alice", PASSWORD, HERE)


async def test_a_flood_costs_no_more_hashes_than_the_budget_holds() -> None:
    world = World(hashing_burst_s=1.0, hashing_waiting_max=1_000)
    world.hold.clear()
    tasks = [
        asyncio.create_task(world.fails(f"user{number}", "x", replace(HERE, address=f"a{number}")))
        for number in range(500)
    ]
    async with asyncio.timeout(5):
        while world.login.results[LoginResult.OVERLOADED] < 480:
            await asyncio.sleep(0)
    world.hold.set()
    errors = await asyncio.gather(*tasks)
    assert len(world.checked) <= 10  # half a second of 50 ms each
    assert len(world.looked_up) == len(world.checked)
    assert sum(isinstance(error, Overloaded) for error in errors) >= 490
    world.parts.hashing.close()
    world.parts.clerks.close()


async def test_only_a_check_that_lets_somebody_in_is_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgiven: list[str] = []
    monkeypatch.setattr(world.parts.hashing, "forgive", lambda: forgiven.append("once"))
    await world.fails("alice", "wrong")
    await world.fails("nobody", "wrong")
    assert forgiven == []
    await world.login.login("alice", PASSWORD, HERE)
    assert forgiven == ["once"]


async def test_a_refusal_for_want_of_room_is_no_failure_of_whoever_asked() -> None:
    world = World(hashing_waiting_max=0)
    world.hold.clear()
    first = asyncio.create_task(world.fails("bob", "wrong"))
    await asyncio.sleep(0)
    for _ in range(100):
        assert isinstance(await world.fails("alice", PASSWORD), Overloaded)
    world.hold.set()
    await first
    await world.login.login("alice", PASSWORD, HERE)
    world.parts.hashing.close()
    world.parts.clerks.close()


async def test_while_the_accounts_are_away_nobody_is_called_wrong_and_nothing_counts(
    world: World,
) -> None:
    world.away = True
    for _ in range(50):
        error = await world.fails("alice", PASSWORD)
        assert (error.status, type(error)) == (503, Overloaded)
    world.away = False
    await world.login.login("alice", PASSWORD, HERE)
    assert world.login.results[LoginResult.AWAY] == 50


async def test_who_leaves_before_the_answer_has_failed() -> None:
    world = World()
    world.hold.clear()
    for number in range(5):
        task = asyncio.create_task(world.login.login("alice", "guess", HERE))
        async with asyncio.timeout(5):
            while len(world.looked_up) <= number:
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert isinstance(await world.fails("alice", "guess"), RateLimited)
    world.hold.set()
    world.parts.hashing.close()
    world.parts.clerks.close()


@pytest.mark.parametrize(
    ("username", "password", "param"),
    [
        ("", "x", "username"),
        ("a" * 129, "x", "username"),
        ("alice", "", "password"),
        ("alice", "x" * 257, "password"),
    ],
)
async def test_what_can_be_nobodys_is_refused_before_anything_is_asked(
    world: World, username: str, password: str, param: str
) -> None:
    error = await world.fails(username, password)
    assert isinstance(error, Invalid)
    assert error.param == param
    assert not world.looked_up


async def test_logins_and_failures_are_written_down_without_passwords(world: World) -> None:
    await world.login.login("alice", PASSWORD, HERE)
    await world.fails("alice", "wrong-secret")
    first, second = world.noted
    assert (first.action, first.actor, first.outcome) == (Action.LOGIN, "alice", Outcome.OK)
    assert (second.outcome, second.address) == (Outcome.UNAUTHENTICATED, "192.0.2.1")
    assert second.request_id == "r1"
    assert PASSWORD not in repr(world.noted)
    assert "wrong-secret" not in repr(world.noted)


async def test_a_password_in_the_place_of_the_name_is_not_written_down(world: World) -> None:
    await world.fails(PASSWORD, PASSWORD)
    assert [(event.actor, event.target) for event in world.noted] == [("", "")]
    await world.fails("alice", "wrong")
    assert world.noted[-1].actor == "alice"


async def test_a_flood_writes_nothing_down_that_was_not_checked(world: World) -> None:
    for _ in range(200):
        await world.fails("alice", "wrong")
    assert len(world.noted) == len(world.checked) == 5


async def test_a_password_kept_with_older_parameters_is_hashed_again(world: World) -> None:
    world.old = True
    world.kept["alice"] = f"hash:{PASSWORD}"
    await world.login.login("alice", PASSWORD, HERE)
    assert world.parts.hashing.done == 2
    assert world.ended == []


async def test_logging_out_ends_the_token_that_was_shown(world: World) -> None:
    await world.login.logout(CALLER, HERE)
    assert world.revoked == [("t1", WALL + 60.0)]
    assert world.changes == 1
    assert world.noted[-1].action is Action.LOGOUT


@pytest.mark.parametrize(
    "caller",
    [
        Caller(user="alice", key_id="k"),
        Caller(user="oidc:alice", token_id="t1"),
        Caller(),
    ],
)
async def test_a_key_or_a_token_of_another_issuer_is_not_logged_out(
    world: World, caller: Caller
) -> None:
    with pytest.raises(Forbidden):
        await world.login.logout(caller, HERE)
    with pytest.raises(Forbidden):
        await world.login.change_password(caller, PASSWORD, NEW, visit=HERE)
    assert not world.revoked
    assert not world.checked


async def test_a_new_password_replaces_the_old_one_and_ends_all_tokens(world: World) -> None:
    await world.login.change_password(CALLER, PASSWORD, NEW, visit=HERE)
    assert world.ended == ["alice"]
    assert world.changes == 1
    assert isinstance(await world.fails("alice", PASSWORD), Unauthenticated)
    await world.login.login("alice", NEW, HERE)
    assert world.noted[0].action is Action.PASSWORD_CHANGED


async def test_a_stolen_token_is_no_way_to_guess_the_password(world: World) -> None:
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await world.login.change_password(CALLER, "guess", NEW, visit=HERE)
    with pytest.raises(RateLimited):
        await world.login.change_password(CALLER, PASSWORD, NEW, visit=HERE)
    assert world.kept["alice"] == f"hash:{PASSWORD}"


@pytest.mark.parametrize("new", ["short", PASSWORD, "Password123456!", "alice123456789", "a" * 300])
async def test_a_weak_password_is_refused_before_the_current_one_is_checked(
    world: World, new: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await world.login.change_password(CALLER, PASSWORD, new, visit=HERE)
    assert caught.value.param == "new"
    assert new not in caught.value.message
    assert not world.checked


async def test_while_the_accounts_are_away_a_logout_is_not_said_to_hold(world: World) -> None:
    world.away = True
    with pytest.raises(Overloaded):
        await world.login.logout(CALLER, HERE)
    assert world.changes == 0
