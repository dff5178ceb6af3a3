"""Seeded histories of refusals and returns, compared with a book kept the simple way."""

import random
from dataclasses import dataclass

import pytest

from forebay.policy.promises import Offer, Promise, PromiseBook, Wish
from tests.support.seeds import SEEDS_MIN, seeds

DECISIONS = 300
PROMISES_MAX, GRACE_S, HORIZON_S, SHARE_MAX, GAP_S = 40, 2.0, 20.0, 0.8, 0.25
EARLY_S, STRETCH_S = 0.05, 0.25


@dataclass(slots=True, kw_only=True)
class Kept:
    """One promise as the simple book has it."""

    at: float
    size: int
    ticket: str
    wish: Wish
    ended: bool = False


class History:
    """Random refusals, returns and time, and what must be true after each."""

    def __init__(self, seed: int, book: PromiseBook) -> None:
        self.dice = random.Random(seed)
        self.book = book
        self.now = 0.0
        self.kept: list[Kept] = []
        self.punctual = seed % 2 == 1
        """Everybody comes back when told to; otherwise some do, sometimes."""

    def step(self) -> None:
        self.now += min(self.dice.expovariate(5.0), GRACE_S)
        if self.punctual:
            self.keep_all()
        if self.punctual or self.dice.random() < 0.6:
            self.refuse()
        else:
            self.come_back()
        self.check()

    def refuse(self) -> None:
        wish = Wish(f"tenant {self.dice.randrange(3)}", f"{self.dice.randrange(30):064x}")
        offer = Offer(
            wait_s=self.dice.uniform(0.0, 2.0), gap_s=GAP_S, size=self.dice.choice((1, 1, 1, 3))
        )
        promise = self.book.promise(wish, offer, self.now)
        assert promise.at >= self.now + min(offer.wait_s, HORIZON_S), "due before the queue is gone"
        assert promise.at <= self.now + HORIZON_S, "a moment beyond the horizon"
        if promise.ticket is not None:
            self.note(promise, offer, wish)

    def note(self, promise: Promise, offer: Offer, wish: Wish) -> None:
        assert promise.ticket is not None
        self.kept.append(Kept(at=promise.at, size=offer.size, ticket=promise.ticket, wish=wish))
        if self.punctual:
            assert self.book.share == 1.0, "all came, but not all were counted"
            self.check_capacity(promise.at)

    def check_capacity(self, last: float) -> None:
        """Look at every stretch of time that ends here: what is due in it, and what it has."""
        due_s = -3 * GAP_S / SHARE_MAX  # the last one may go on beyond
        for kept in sorted(self.open(), key=lambda kept: kept.at, reverse=True):
            if self.now < kept.at <= last:
                due_s += kept.size * GAP_S / SHARE_MAX
                has_s = last - kept.at + STRETCH_S
                assert due_s <= has_s + 1e-6, "more promised than the lane has"

    def keep_all(self) -> None:
        """Let everybody come back who is due."""
        for kept in self.open():
            if kept.at <= self.now:
                kept.ended = self.book.redeem(kept.wish, self.now, ticket=kept.ticket)
                assert kept.ended, "turned away in spite of a promise"

    def come_back(self) -> None:
        """Send somebody back: mostly about in time, with a ticket or without one."""
        if not self.kept:
            return
        kept = min(self.dice.sample(self.kept, min(3, len(self.kept))), key=self.how_far)
        ticket = kept.ticket if self.dice.random() < 0.7 else None
        tenant = kept.wish.tenant if self.dice.random() < 0.9 else "a stranger"
        wish = Wish(tenant, kept.wish.digest)
        expected = self.expected(wish, ticket)
        assert self.book.redeem(wish, self.now, ticket=ticket) == (expected is not None), (
            "let in wrongly, or turned away in spite of a promise"
        )
        if expected is not None:
            expected.ended = True

    def how_far(self, kept: Kept) -> float:
        return abs(kept.at + GRACE_S / 2 - self.now)

    def expected(self, wish: Wish, ticket: str | None) -> Kept | None:
        """Find whose promise serves: that of the ticket, or the wish's earliest."""
        there = [each for each in self.open() if each.wish.tenant == wish.tenant]
        shown = [each for each in there if each.ticket == ticket]
        found = shown or [each for each in there if each.wish == wish]
        first = min(found, key=lambda kept: kept.at, default=None)
        return first if first is not None and first.at <= self.now + EARLY_S else None

    def open(self) -> list[Kept]:
        return [k for k in self.kept if not k.ended and k.at + GRACE_S >= self.now]

    def check(self) -> None:
        book, there = self.book, self.open()
        seconds = self.dice.uniform(0.1, 10.0)
        due = sum(k.size for k in there if self.now + STRETCH_S < k.at <= self.now + seconds)
        expected = book.flow(seconds, self.now) * seconds
        assert expected >= 0.0
        if self.punctual:  # the last two may go on beyond
            assert expected >= due - 4 - 1e-6, "less expected than will come"
        assert len(book) == len(there), "a promise was lost, or kept for too long"
        assert book.made == book.redeemed + book.missed + len(book), "promises do not add up"
        assert len(there) <= PROMISES_MAX, "more promises than may be kept"
        assert 0.0 <= book.share <= 1.0


def run(seed: int, book: PromiseBook) -> None:
    history = History(seed, book)
    try:
        for _ in range(DECISIONS):
            history.step()
    except AssertionError as broken:
        broken.add_note(f"seed {seed}: repeat it with `make sim SEED={seed}`")
        raise


def a_book(kind: type[PromiseBook] = PromiseBook) -> PromiseBook:
    return kind(
        promises_max=PROMISES_MAX, grace_s=GRACE_S, horizon_s=HORIZON_S, share_max=SHARE_MAX
    )


def test_every_invariant_holds_over_the_seeds() -> None:
    for seed in seeds():
        run(seed, a_book())


class ForgetsSizes(PromiseBook):
    """Takes every request for one place."""

    def promise(
        self, wish: Wish, offer: Offer, now: float, *, ticket: str | None = None
    ) -> Promise:
        offer = Offer(wait_s=offer.wait_s, gap_s=offer.gap_s)
        return super().promise(wish, offer, now, ticket=ticket)


class NeverGivesUp(PromiseBook):
    """Looks at who is late only every other second."""

    def settle(self, now: float) -> None:
        if int(now) % 2:
            super().settle(now)


class TrustsTickets(PromiseBook):
    """Does not look who shows a ticket."""

    def redeem(self, wish: Wish, now: float, *, ticket: str | None = None) -> bool:
        entry = self._by_ticket.get(ticket or "")
        whoever = Wish(entry[3], wish.digest) if entry else wish
        return super().redeem(whoever, now, ticket=ticket)


@pytest.mark.parametrize("kind", [ForgetsSizes, NeverGivesUp, TrustsTickets])
def test_a_planted_defect_is_caught(kind: type[PromiseBook]) -> None:
    def all_seeds() -> None:
        for seed in range(SEEDS_MIN):
            run(seed, a_book(kind))

    with pytest.raises(AssertionError):
        all_seeds()
