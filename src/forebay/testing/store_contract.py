"""The promises of `Store` as tests: for whoever writes one.

Derive a class named `Test…` from `StoreContract` and give it two async fixtures: `store`, an
opened store that keeps at least 100 answers of 1,000 bytes and is closed afterwards; and
`other`, a second opened store that shares its names (the same object, if it cannot be shared).
Leases here last `LEASE_S`; a store whose clock is coarser sets a longer one.
"""

import asyncio
from dataclasses import replace

from forebay.serve.store import Claim, Differs, Done, Expired, Fresh, Running, Store, Wish

FOREVER_S = 3600.0


def a_wish(name: str = "name", owner: str = "owner-1", **facts: object) -> Wish:
    """Return a wish that nobody else has; `facts` replace any of its fields."""
    wish = Wish(name=name, fingerprint="f", owner=owner, lease_s=FOREVER_S, ttl_s=FOREVER_S)
    return replace(wish, **facts)  # type: ignore[arg-type]  # the tests name real fields


def done(claim: Claim | Expired | None) -> bytes:
    """Return the answer of what must be done."""
    assert isinstance(claim, Done), claim
    return claim.blob


class StoreContract:
    """Numbers are those of the protocol's promises."""

    LEASE_S = 0.2
    """Long enough that one question is answered within it."""

    async def test_1_a_free_name_is_fresh_and_stays_so_for_its_owner(self, store: Store) -> None:
        """A claim whose answer was lost may be sent again."""
        assert await store.claim(a_wish()) == Fresh()
        assert await store.claim(a_wish()) == Fresh()

    async def test_1_of_many_at_once_one_is_fresh(self, store: Store, other: Store) -> None:
        """Whichever store they ask."""
        wishes = [a_wish(owner=f"owner-{index}") for index in range(20)]
        asked = [(store, other)[index % 2].claim(wish) for index, wish in enumerate(wishes)]
        claims = await asyncio.gather(*asked)
        assert sum(isinstance(claim, Fresh) for claim in claims) == 1
        assert sum(isinstance(claim, Running) for claim in claims) == len(wishes) - 1

    async def test_2_what_is_claimed_runs_and_what_is_finished_is_done(
        self, store: Store, other: Store
    ) -> None:
        """For everybody with the same fingerprint."""
        mine, theirs = a_wish(), a_wish(owner="owner-2")
        await store.claim(mine)
        running = await other.claim(theirs)
        assert isinstance(running, Running)
        assert running.fingerprint == mine.fingerprint
        assert 0.0 < running.lease_left_s <= mine.lease_s
        assert await store.finish(mine, b"answer\0\xff")
        assert await other.claim(theirs) == Done(fingerprint="f", blob=b"answer\0\xff")

    async def test_2_another_fingerprint_differs(self, store: Store, other: Store) -> None:
        """From what runs and from what is done."""
        mine, unlike = a_wish(), a_wish(owner="owner-2", fingerprint="g")
        await store.claim(mine)
        assert await other.claim(unlike) == Differs()
        await store.finish(mine, b"answer")
        assert await other.claim(unlike) == Differs()

    async def test_2_names_do_not_mix(self, store: Store) -> None:
        """Each has its own answer."""
        wishes = [a_wish(f"name-{index}", f"owner-{index}") for index in range(20)]
        assert await asyncio.gather(*(store.claim(wish) for wish in wishes)) == [Fresh()] * 20
        await asyncio.gather(*(store.finish(wish, wish.name.encode()) for wish in wishes))
        for wish in wishes:
            assert done(await store.look(wish.name)) == wish.name.encode()

    async def test_2_a_lease_that_has_ended_leaves_the_name_free(
        self, store: Store, other: Store
    ) -> None:
        """Whatever its fingerprint was: its owner is dead."""
        await store.claim(a_wish(lease_s=self.LEASE_S))
        await asyncio.sleep(self.LEASE_S * 1.5)
        assert await store.look("name") is None
        assert await other.claim(a_wish(owner="owner-2", fingerprint="g")) == Fresh()

    async def test_3_a_renewed_lease_goes_on(self, store: Store, other: Store) -> None:
        """As long as its owner says that it is there."""
        mine = a_wish(lease_s=self.LEASE_S)
        await store.claim(mine)
        for _ in range(4):
            await asyncio.sleep(self.LEASE_S / 2)
            assert await store.renew(mine)
        assert isinstance(await other.claim(a_wish(owner="owner-2")), Running)

    async def test_3_what_is_another_s_cannot_be_renewed(self, store: Store, other: Store) -> None:
        """Nor what was given back, nor what never was."""
        assert not await store.renew(a_wish())
        await store.claim(a_wish())
        await store.abandon(a_wish())
        assert not await store.renew(a_wish())
        await other.claim(a_wish(owner="owner-2"))
        assert not await store.renew(a_wish())
        assert isinstance(await store.claim(a_wish()), Running)

    async def test_4_a_late_owner_is_fenced_off(self, store: Store, other: Store) -> None:
        """Its answer is refused, before and after the other one's."""
        late, heir = a_wish(lease_s=self.LEASE_S), a_wish(owner="owner-2")
        await store.claim(late)
        await asyncio.sleep(self.LEASE_S * 1.5)
        assert await other.claim(heir) == Fresh()
        assert not await store.finish(late, b"late")
        assert await other.finish(heir, b"answer")
        assert not await store.finish(late, b"late")
        assert done(await store.look("name")) == b"answer"

    async def test_4_lateness_alone_is_forgiven(self, store: Store) -> None:
        """Nobody else wanted the name."""
        mine = a_wish(lease_s=self.LEASE_S)
        await store.claim(mine)
        await asyncio.sleep(self.LEASE_S * 1.5)
        assert await store.renew(mine)
        await asyncio.sleep(self.LEASE_S * 1.5)
        assert await store.finish(mine, b"answer")
        assert done(await store.look("name")) == b"answer"

    async def test_4_an_answer_is_kept_for_its_time(self, store: Store) -> None:
        """Then the name is free for whatever comes."""
        mine = a_wish(ttl_s=self.LEASE_S)
        await store.claim(mine)
        await store.finish(mine, b"answer")
        assert done(await store.look("name")) == b"answer"
        await asyncio.sleep(self.LEASE_S * 1.5)
        assert await store.look("name") is None
        assert await store.claim(a_wish(owner="owner-2", fingerprint="g")) == Fresh()

    async def test_4_nobody_finishes_what_was_never_claimed(self, store: Store) -> None:
        """Nor what was given back."""
        assert not await store.finish(a_wish(), b"answer")
        await store.claim(a_wish())
        await store.abandon(a_wish())
        assert not await store.finish(a_wish(), b"answer")
        assert await store.look("name") is None

    async def test_5_the_first_finish_counts(self, store: Store) -> None:
        """One whose answer was lost may be sent again."""
        await store.claim(a_wish())
        assert await store.finish(a_wish(), b"first")
        assert await store.finish(a_wish(), b"second")
        assert done(await store.look("name")) == b"first"

    async def test_6_a_name_that_was_given_back_is_free(self, store: Store, other: Store) -> None:
        """At once."""
        await store.claim(a_wish())
        await store.abandon(a_wish())
        assert await other.claim(a_wish(owner="owner-2")) == Fresh()

    async def test_6_only_the_owner_gives_back(self, store: Store, other: Store) -> None:
        """And nobody an answer."""
        await store.claim(a_wish())
        await other.abandon(a_wish(owner="owner-2"))
        assert isinstance(await other.look("name"), Running)
        await store.finish(a_wish(), b"answer")
        await store.abandon(a_wish())
        assert done(await store.look("name")) == b"answer"

    async def test_7_looking_changes_nothing(self, store: Store, other: Store) -> None:
        """What is free stays free."""
        assert await store.look("name") is None
        assert await store.claim(a_wish()) == Fresh()
        assert isinstance(await other.look("name"), Running)

    async def test_8_a_stream_is_found_by_its_owner(self, store: Store, other: Store) -> None:
        """While it runs and when it is done; by nobody else's name."""
        assert await store.find("owner-1") is None
        await store.claim(a_wish())
        assert isinstance(await other.find("owner-1"), Running)
        await store.finish(a_wish(), b"answer")
        assert done(await other.find("owner-1")) == b"answer"
        assert await other.find("owner-2") is None
        assert await other.find("name") is None

    async def test_8_a_stream_is_remembered_longer_than_its_answer(self, store: Store) -> None:
        """So that whoever comes late learns that it is gone; for twice the time."""
        mine = a_wish(ttl_s=self.LEASE_S)
        await store.claim(mine)
        await store.finish(mine, b"answer")
        await asyncio.sleep(self.LEASE_S * 1.5)
        assert await store.find("owner-1") == Expired()
        await asyncio.sleep(self.LEASE_S)
        assert await store.find("owner-1") is None

    async def test_8_a_stream_that_came_to_nothing_is_gone(self, store: Store) -> None:
        """Given back, dead, or overtaken: another's answer is not shown under its name."""
        await store.claim(a_wish())
        await store.abandon(a_wish())
        assert await store.find("owner-1") == Expired()
        await store.claim(a_wish(owner="owner-2", lease_s=self.LEASE_S))
        await asyncio.sleep(self.LEASE_S * 1.5)
        assert await store.find("owner-2") == Expired()
        await store.claim(a_wish(owner="owner-3"))
        await store.finish(a_wish(owner="owner-3"), b"answer")
        assert await store.find("owner-1") == Expired()
        assert await store.find("owner-2") == Expired()

    async def test_9_a_large_answer_is_kept_whole(self, store: Store) -> None:
        """A few tens of kilobytes, byte for byte."""
        blob = bytes(range(256)) * 200
        await store.claim(a_wish())
        await store.finish(a_wish(), blob)
        assert done(await store.look("name")) == blob
