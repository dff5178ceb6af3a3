from collections.abc import AsyncIterator

import pytest

from forebay.core.clock import MONOTONIC, ManualClock
from forebay.serve.store import Differs, Done, Expired, Fresh, MemoryStore, Store
from forebay.testing.store_contract import StoreContract, a_wish


class TestMemoryStore(StoreContract):
    LEASE_S = 0.1

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        store = MemoryStore(MONOTONIC, bytes_max=1_000_000, entries_max=1_000)
        await store.open()
        yield store
        await store.close()

    @pytest.fixture
    async def other(self, store: Store) -> Store:
        return store


async def test_the_oldest_answers_make_room_and_leases_do_not() -> None:
    store = MemoryStore(ManualClock(), bytes_max=1_000, entries_max=3)
    leased = a_wish("leased", "leased")
    await store.claim(leased)
    for index in range(5):
        wish = a_wish(f"name-{index}", f"owner-{index}")
        assert await store.claim(wish) == Fresh()
        assert await store.finish(wish, bytes(100))
    assert [f"name-{index}" in store for index in range(5)] == [False, False, True, True, True]
    assert store.bytes_kept == 300
    assert await store.finish(leased, bytes(950))
    assert store.bytes_kept == 950
    assert isinstance(await store.look("leased"), Done)
    assert await store.find("owner-4") == Expired()


async def test_claims_of_the_dead_do_not_pile_up() -> None:
    clock = ManualClock()
    store = MemoryStore(clock, bytes_max=1_000, entries_max=10)
    for index in range(100):
        await store.claim(a_wish(f"name-{index}", f"owner-{index}", lease_s=1.0))
        clock.advance(0.5)
    assert len(store) <= 11


async def test_an_answer_may_be_kept_though_another_has_the_name() -> None:
    store = MemoryStore(ManualClock(), bytes_max=1_000, entries_max=10)
    await store.claim(a_wish())
    store.keep(a_wish(owner="owner-2", fingerprint="g"), b"answer")
    assert await store.claim(a_wish()) == Differs()
