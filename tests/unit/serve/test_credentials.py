"""Whom credentials stand for: looked up once, known for a while."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace

import pytest

from forebay.accounts.config import AccountsAway
from forebay.core.caller import Caller
from forebay.core.clock import ManualClock
from forebay.core.errors import Overloaded, Unauthenticated
from forebay.serve.clerks import Clerks
from forebay.serve.credentials import AccessConfig, Credentials

ANN = Caller(user="ann", key_id="k1")
CONFIG = AccessConfig(mode="closed", cached_s=5.0, stale_s=60.0, credentials_max=100)


class Book:
    """Knows some credentials, counts who asks, and may be away or slow."""

    def __init__(self, **known: Caller) -> None:
        self.known = known
        self.asked: Counter[str] = Counter()
        self.away = False
        self.open = threading.Event()
        self.open.set()

    def __call__(self, given: str) -> Caller | None:
        self.asked[given] += 1
        self.open.wait(5)
        if self.away:
            raise AccountsAway
        return self.known.get(given)


class Desk:
    """Credentials over a book, and their clocks."""

    def __init__(self, book: Book, config: AccessConfig = CONFIG, *, asked_max: int = 8) -> None:
        self.now, self.wall = ManualClock(), ManualClock(1_000.0)
        clerks = Clerks(threads=2, asked_max=asked_max)
        self.credentials = Credentials(book, config, clerks=clerks, now=self.now, wall=self.wall)

    async def finds(self, given: str) -> str:
        return (await self.credentials.find(given.encode())).user


async def test_a_credential_is_looked_up_once_while_it_is_believed() -> None:
    book = Book(a=ANN)
    desk = Desk(book)
    for _ in range(3):
        assert await desk.finds("a") == "ann"
    desk.now.advance(5.1)
    assert await desk.finds("a") == "ann"
    assert book.asked["a"] == 2


async def test_nobodys_credential_is_remembered_as_such() -> None:
    book = Book()
    desk = Desk(book)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await desk.finds("x")
    assert book.asked["x"] == 1


async def test_a_credential_ends_at_its_moment_however_well_it_is_known() -> None:
    desk = Desk(Book(a=replace(ANN, expires=1_003.0)))
    assert await desk.finds("a") == "ann"
    desk.wall.advance(3.0)
    with pytest.raises(Unauthenticated):
        await desk.finds("a")


async def test_what_was_forgotten_is_looked_up_again() -> None:
    book = Book(a=ANN)
    desk = Desk(book)
    await desk.finds("a")
    del book.known["a"]
    desk.credentials.forget()
    with pytest.raises(Unauthenticated):
        await desk.finds("a")


async def test_a_look_up_from_before_a_revocation_is_not_remembered() -> None:
    book = Book(a=ANN)
    desk = Desk(book)
    book.open.clear()
    before = asyncio.create_task(desk.finds("a"))
    while not book.asked["a"]:
        await asyncio.sleep(0)
    desk.credentials.forget()
    after = asyncio.create_task(desk.finds("a"))
    while book.asked["a"] < 2:
        await asyncio.sleep(0)
    del book.known["a"]
    book.open.set()
    await asyncio.gather(before, after, return_exceptions=True)
    with pytest.raises(Unauthenticated):
        await desk.finds("a")


async def test_many_who_show_the_same_share_one_look_up() -> None:
    book = Book(a=ANN)
    desk = Desk(book)
    book.open.clear()
    waiting = [asyncio.create_task(desk.finds("a")) for _ in range(50)]
    while not book.asked["a"]:
        await asyncio.sleep(0)
    waiting[0].cancel()
    book.open.set()
    assert await asyncio.gather(*waiting[1:]) == ["ann"] * 49
    assert book.asked["a"] == 1


async def test_look_ups_are_bounded_and_the_rest_told_to_come_back() -> None:
    book = Book(a=ANN)
    desk = Desk(book, asked_max=2)
    book.open.clear()
    waiting = [asyncio.create_task(desk.finds(given)) for given in ("x", "y")]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await desk.finds("a")
    book.open.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await desk.finds("a") == "ann"


async def test_strangers_cannot_push_a_known_caller_out() -> None:
    book = Book(a=ANN)
    desk = Desk(book)
    await desk.finds("a")
    for index in range(300):
        with pytest.raises(Unauthenticated):
            await desk.finds(f"x{index}")
    await desk.finds("a")
    assert book.asked["a"] == 1
    assert len(desk.credentials._bad) == 100


async def test_while_the_accounts_are_away_the_known_are_believed_for_a_while() -> None:
    book = Book(a=ANN)
    desk = Desk(book)
    await desk.finds("a")
    book.away = True
    desk.now.advance(64.0)
    assert await desk.finds("a") == "ann"
    desk.now.advance(2.0)
    with pytest.raises(Overloaded):
        await desk.finds("a")


async def test_while_the_accounts_are_away_nobody_new_is_let_in() -> None:
    book = Book(a=ANN)
    book.away = True
    desk = Desk(book)
    with pytest.raises(Overloaded):
        await desk.finds("a")
    book.away = False
    assert await desk.finds("a") == "ann"


async def test_when_keys_were_used_is_told_once() -> None:
    desk = Desk(Book(a=ANN))
    await desk.finds("a")
    assert desk.credentials.take_used() == {"k1": 1_000.0}
    assert desk.credentials.take_used() == {}


async def test_the_known_are_believed_while_others_ask_too_much() -> None:
    book = Book(a=ANN)
    desk = Desk(book, asked_max=2)
    await desk.finds("a")
    desk.now.advance(5.1)
    book.open.clear()
    strangers = [asyncio.create_task(desk.finds(given)) for given in ("x", "y")]
    await asyncio.sleep(0)
    assert await desk.finds("a") == "ann"
    book.open.set()
    await asyncio.gather(*strangers, return_exceptions=True)


async def test_while_the_accounts_are_late_the_known_wait_once_and_nobody_new_is_let_in() -> None:
    book = Book(a=ANN)
    desk = Desk(book, replace(CONFIG, answer_s_max=0.01))
    await desk.finds("a")
    desk.now.advance(5.1)
    book.open.clear()
    assert await desk.finds("a") == "ann"
    with pytest.raises(Overloaded):
        await desk.finds("new")
    desk.now.advance(1.0)
    assert await desk.finds("a") == "ann"
    assert book.asked["a"] == 2, "the look-up that is late is the one that is waited for"
    book.open.set()
    while desk.credentials._under_way:
        await asyncio.sleep(0)
    assert await desk.finds("a") == "ann"
    assert book.asked["a"] == 2


async def test_while_the_accounts_are_away_nobodys_credential_is_not_called_wrong() -> None:
    book = Book()
    desk = Desk(book)
    with pytest.raises(Unauthenticated):
        await desk.finds("x")
    book.away = True
    desk.now.advance(5.1)
    with pytest.raises(Overloaded):  # it may have been made since
        await desk.finds("x")
    book.away, book.known["x"] = False, ANN
    assert await desk.finds("x") == "ann"


async def test_what_was_nobodys_is_looked_up_again_once_something_changed() -> None:
    book = Book()
    desk = Desk(book)
    with pytest.raises(Unauthenticated):
        await desk.finds("a")
    book.known["a"] = ANN
    desk.credentials.forget()
    assert await desk.finds("a") == "ann"


async def test_what_is_known_to_have_ended_is_not_believed_again_while_the_accounts_are_away() -> (
    None
):
    book = Book(a=ANN)
    desk = Desk(book)
    await desk.finds("a")
    del book.known["a"]
    desk.now.advance(5.1)
    with pytest.raises(Unauthenticated):
        await desk.finds("a")
    with pytest.raises(Unauthenticated):
        await desk.finds("a")
    assert book.asked["a"] == 2, "that it ended is remembered"
    book.away = True
    desk.now.advance(5.1)
    with pytest.raises(Overloaded):
        await desk.finds("a")


async def test_of_too_many_callers_those_looked_up_the_longest_ago_are_forgotten() -> None:
    names = [f"k{number}" for number in range(101)]
    book = Book(**dict.fromkeys(names, ANN))
    desk = Desk(book)
    for name in names[:100]:
        await desk.finds(name)
    desk.now.advance(5.1)
    await desk.finds("k0")
    await desk.finds("k100")
    assert (book.asked["k0"], book.asked["k100"]) == (2, 1)
    await desk.finds("k0")
    await desk.finds("k100")
    assert (book.asked["k0"], book.asked["k100"]) == (2, 1), "both are remembered"
    assert len(desk.credentials._good) == 100
