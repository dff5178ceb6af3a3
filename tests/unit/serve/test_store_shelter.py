import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from forebay.core.clock import MONOTONIC, ManualClock
from forebay.serve.store import (
    Differs,
    Done,
    Expired,
    Fresh,
    MemoryStore,
    Running,
    Store,
    StoreAway,
    Wish,
)
from forebay.serve.store_shelter import ShelteredStore
from forebay.testing.store_contract import StoreContract, a_wish


class FarStore(MemoryStore):
    """A store that can be away, and can do what it is asked without saying so."""

    def __init__(self) -> None:
        super().__init__(MONOTONIC, bytes_max=1_000_000, entries_max=1_000)
        self.gone = False
        self.mute = False

    @property
    def away(self) -> bool:
        return self.gone

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in {"claim", "renew", "finish", "abandon", "look", "find"}:
            return found

        async def asked(*arguments: Any) -> Any:
            if self.gone:
                raise StoreAway
            answer = await found(*arguments)
            if self.mute:
                raise StoreAway
            return answer

        return asked

    def empty(self) -> None:
        """Forget everything: FLUSHALL."""
        MemoryStore.__init__(self, MONOTONIC, bytes_max=1_000_000, entries_max=1_000)


@dataclass(kw_only=True)
class Two:
    """Two processes' stores over one far store."""

    far: FarStore = field(default_factory=FarStore)
    near: MemoryStore
    mine: ShelteredStore = field(init=False)
    theirs: ShelteredStore = field(init=False)

    def __post_init__(self) -> None:
        self.mine = ShelteredStore(self.far, self.near, owed_max=100)
        self.theirs = ShelteredStore(self.far, a_near(), owed_max=100)


def a_near() -> MemoryStore:
    return MemoryStore(MONOTONIC, bytes_max=1_000_000, entries_max=1_000)


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    two = Two(near=a_near())
    yield two
    await two.mine.close()
    await two.theirs.close()


class TestShelteredStore(StoreContract):
    LEASE_S = 0.1

    @pytest.fixture
    async def store(self, two: Two) -> Store:
        return two.mine

    @pytest.fixture
    async def other(self, two: Two) -> Store:
        return two.theirs


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(5.0):
        while not true():
            await asyncio.sleep(0.01)


async def finished(store: Store, wish: Wish, blob: bytes = b"answer") -> None:
    assert isinstance(await store.claim(wish), Fresh)
    assert await store.finish(wish, blob)


async def test_while_the_far_store_is_away_a_key_is_known_here_and_says_so(two: Two) -> None:
    two.far.gone = True
    assert await two.mine.claim(a_wish()) == Fresh(degraded=True)
    running = await two.mine.claim(a_wish(owner="owner-2"))
    assert isinstance(running, Running)
    assert running.degraded
    assert await two.mine.claim(a_wish(owner="owner-2", fingerprint="g")) == Differs()
    assert await two.mine.renew(a_wish())
    assert await two.mine.finish(a_wish(), b"answer")
    replay = Done(fingerprint="f", blob=b"answer", degraded=True)
    assert await two.mine.claim(a_wish(owner="owner-2")) == replay
    assert await two.mine.look("name") == replay


async def test_what_is_made_during_an_absence_is_known_to_others_afterwards(two: Two) -> None:
    two.far.gone = True
    await finished(two.mine, a_wish())
    assert two.mine.owed == 1
    assert two.mine.away
    two.far.gone = False
    assert not two.mine.away
    await until(lambda: not two.mine.owed)
    assert await two.theirs.claim(a_wish(owner="owner-2")) == Done(fingerprint="f", blob=b"answer")
    assert await two.theirs.find("owner-1") == Done(fingerprint="f", blob=b"answer")
    assert await two.mine.claim(a_wish(owner="owner-2")) == Done(fingerprint="f", blob=b"answer")


async def test_an_answer_claimed_before_an_absence_is_delivered_after_it(two: Two) -> None:
    assert await two.mine.claim(a_wish()) == Fresh()
    two.far.gone = True
    assert await two.mine.renew(a_wish())
    assert await two.mine.finish(a_wish(), b"answer")
    two.far.gone = False
    await until(lambda: not two.mine.owed)
    assert await two.theirs.claim(a_wish(owner="owner-2")) == Done(fingerprint="f", blob=b"answer")


async def test_a_claim_made_during_an_absence_is_told_at_its_next_renewal(two: Two) -> None:
    two.far.gone = True
    await two.mine.claim(a_wish())
    two.far.gone = False
    assert await two.mine.renew(a_wish())
    assert isinstance(await two.theirs.claim(a_wish(owner="owner-2")), Running)
    assert isinstance(await two.mine.claim(a_wish(owner="owner-2")), Running)


async def test_an_answer_made_here_is_replayed_here_though_the_far_store_is_away(two: Two) -> None:
    await finished(two.mine, a_wish())
    two.far.gone = True
    known = await two.mine.claim(a_wish(owner="owner-2"))
    assert known == Done(fingerprint="f", blob=b"answer")
    assert await two.theirs.claim(a_wish(owner="owner-2")) == Fresh(degraded=True)


async def test_of_two_that_answered_apart_the_first_stays_and_each_keeps_its_own(two: Two) -> None:
    two.far.gone = True
    await finished(two.mine, a_wish(), b"mine")
    await finished(two.theirs, a_wish(owner="owner-2"), b"theirs")
    two.far.gone = False
    await until(lambda: not two.mine.owed + two.theirs.owed)
    kept = await two.far.look("name")
    assert isinstance(kept, Done)
    assert kept.blob in {b"mine", b"theirs"}
    for store, own in ((two.mine, b"mine"), (two.theirs, b"theirs")):
        assert await store.claim(a_wish(owner="owner-3")) == Done(fingerprint="f", blob=own)


async def test_a_question_that_was_heard_though_its_answer_was_lost_does_no_harm(two: Two) -> None:
    two.far.mute = True
    assert await two.mine.claim(a_wish()) == Fresh(degraded=True)
    assert isinstance(await MemoryStore.look(two.far, "name"), Running)
    two.far.mute = False
    assert await two.mine.finish(a_wish(), b"answer")
    await until(lambda: not two.mine.owed)
    assert await two.theirs.look("name") == Done(fingerprint="f", blob=b"answer")


async def test_a_far_store_that_forgot_a_claim_is_told_again_by_its_renewal(two: Two) -> None:
    await two.mine.claim(a_wish())
    two.far.empty()
    assert await two.mine.renew(a_wish())
    assert isinstance(await two.theirs.claim(a_wish(owner="owner-2")), Running)


async def test_a_far_store_that_forgot_a_claim_still_takes_its_answer(two: Two) -> None:
    await two.mine.claim(a_wish())
    two.far.empty()
    assert await two.mine.finish(a_wish(), b"answer")
    assert await two.theirs.claim(a_wish(owner="owner-2")) == Done(fingerprint="f", blob=b"answer")


async def test_what_another_claimed_after_the_far_store_forgot_is_the_other_s(two: Two) -> None:
    await two.mine.claim(a_wish())
    two.far.empty()
    await two.theirs.claim(a_wish(owner="owner-2"))
    assert not await two.mine.renew(a_wish())
    assert not await two.mine.finish(a_wish(), b"answer")
    assert isinstance(await two.far.look("name"), Running)


async def test_what_was_given_back_during_an_absence_is_free_here(two: Two) -> None:
    two.far.gone = True
    await two.mine.claim(a_wish())
    await two.mine.abandon(a_wish())
    assert await two.mine.claim(a_wish(owner="owner-2")) == Fresh(degraded=True)


async def test_a_stream_of_our_own_is_found_during_an_absence(two: Two) -> None:
    two.far.gone = True
    await two.mine.claim(a_wish())
    assert isinstance(await two.mine.find("owner-1"), Running)
    await two.mine.finish(a_wish(), b"answer")
    assert isinstance(await two.mine.find("owner-1"), Done)
    await two.mine.claim(a_wish("other name", "owner-2"))
    await two.mine.abandon(a_wish("other name", "owner-2"))
    assert await two.mine.find("owner-2") == Expired()


async def test_whether_a_stranger_s_stream_exists_is_not_guessed_during_an_absence(
    two: Two,
) -> None:
    await finished(two.theirs, a_wish())
    two.far.gone = True
    with pytest.raises(StoreAway):
        await two.mine.find("owner-1")


async def test_nobody_finishes_or_renews_during_an_absence_what_was_not_claimed(two: Two) -> None:
    two.far.gone = True
    assert not await two.mine.finish(a_wish(), b"answer")
    assert not await two.mine.renew(a_wish())
    assert await two.mine.look("name") is None


async def test_debts_are_bounded_and_the_oldest_stay_here() -> None:
    far = FarStore()
    store = ShelteredStore(far, a_near(), owed_max=3)
    far.gone = True
    for index in range(5):
        await finished(store, a_wish(f"name-{index}", f"owner-{index}"))
    assert store.owed == 3
    far.gone = False
    await until(lambda: not store.owed)
    assert [f"name-{index}" in far for index in range(5)] == [False, False, True, True, True]
    await store.close()


async def test_nothing_is_remembered_of_claims_that_ended(two: Two) -> None:
    for index, away in enumerate((False, True)):
        two.far.gone = away
        await finished(two.mine, a_wish(f"name-{index}", f"owner-{index}"))
        gone = a_wish(f"gone-{index}", f"goner-{index}")
        await two.mine.claim(gone)
        await two.mine.abandon(gone)
    assert two.mine.claims == 0


async def test_an_answer_that_made_room_before_it_was_paid_is_not_owed_any_more() -> None:
    far = FarStore()
    near = MemoryStore(ManualClock(), bytes_max=10, entries_max=10)
    store = ShelteredStore(far, near, owed_max=10)
    far.gone = True
    await finished(store, a_wish("name-1", "owner-1"), bytes(10))
    await finished(store, a_wish("name-2", "owner-2"), bytes(10))
    far.gone = False
    await until(lambda: not store.owed)
    assert ("name-1" in far, "name-2" in far) == (False, True)
    await store.close()


async def test_an_answer_that_ends_in_an_absence_is_delivered_though_nothing_was_renewed(
    two: Two,
) -> None:
    assert await two.mine.claim(a_wish()) == Fresh()
    two.far.gone = True
    assert await two.mine.finish(a_wish(), b"answer")
    two.far.gone = False
    await until(lambda: not two.mine.owed)
    assert await two.theirs.claim(a_wish(owner="owner-2")) == Done(fingerprint="f", blob=b"answer")


async def test_a_stream_given_up_in_an_absence_is_gone_and_not_unknown_afterwards(
    two: Two,
) -> None:
    two.far.gone = True
    await two.mine.claim(a_wish())
    await two.mine.abandon(a_wish())
    two.far.gone = False
    assert await two.mine.find("owner-1") == Expired()


async def test_who_claimed_in_an_absence_goes_on_though_another_did_so_too(two: Two) -> None:
    two.far.gone = True
    assert isinstance(await two.mine.claim(a_wish()), Fresh)
    two.far.gone = False
    assert await two.theirs.claim(a_wish(owner="owner-2")) == Fresh()
    assert await two.mine.renew(a_wish())
    assert await two.mine.finish(a_wish(), b"mine")
    assert await two.theirs.finish(a_wish(owner="owner-2"), b"theirs")
    await until(lambda: not two.mine.owed)
    assert await two.far.look("name") == Done(fingerprint="f", blob=b"theirs")


async def test_an_answer_that_the_far_store_cannot_take_is_not_offered_for_ever(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.serve.store_shelter._PATIENCE_S", 0.001)
    offers: list[str] = []

    async def refuse(wish: Wish, blob: bytes) -> bool:
        offers.append(wish.name)
        if blob == b"too large":
            raise StoreAway
        return await MemoryStore.finish(two.far, wish, blob)

    monkeypatch.setattr(two.far, "finish", refuse)
    await finished(two.mine, a_wish("large", "owner-1"), b"too large")
    await finished(two.mine, a_wish("small", "owner-2"), b"answer")
    await until(lambda: not two.mine.owed)
    assert 2 <= offers.count("large") <= 10
    assert await two.theirs.look("small") == Done(fingerprint="f", blob=b"answer")
    assert await two.mine.look("large") == Done(fingerprint="f", blob=b"too large")
