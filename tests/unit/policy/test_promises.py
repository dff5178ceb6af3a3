import gc
import random
from typing import Any

import pytest

from forebay.policy.promises import Offer, PromiseBook, Wish

MINE, OTHER = Wish("me", "a" * 64), Wish("me", "b" * 64)
OFFER = Offer(wait_s=1.0, gap_s=0.5)


def a_book(**bounds: Any) -> PromiseBook:
    usual = {"promises_max": 100, "grace_s": 5.0, "horizon_s": 60.0, "share_max": 1.0}
    return PromiseBook(**(usual | bounds))


def test_the_first_moment_is_when_the_queue_of_now_has_gone() -> None:
    assert a_book().promise(MINE, OFFER, 10.0).at == 11.0


def test_moments_follow_each_other_at_the_pace_of_the_lane() -> None:
    book = a_book()
    assert [book.promise(MINE, OFFER, 10.0).at for _ in range(3)] == [11.0, 11.5, 12.0]


def test_a_share_of_the_pace_is_left_to_those_who_come_unpromised() -> None:
    book = a_book(share_max=0.5)
    assert [book.promise(MINE, OFFER, 10.0).at for _ in range(3)] == [11.0, 12.0, 13.0]


def test_a_request_of_several_places_takes_as_many_turns() -> None:
    book = a_book()
    book.promise(MINE, Offer(wait_s=1.0, gap_s=0.5, size=4), 10.0)
    assert book.promise(MINE, OFFER, 10.0).at == 13.0


def test_one_tenant_cannot_book_the_time_of_all() -> None:
    book = a_book(tenant_s_max=2.0)
    tickets = [book.promise(MINE, OFFER, 10.0).ticket for _ in range(6)]
    assert [ticket is not None for ticket in tickets] == [True] * 4 + [False] * 2
    assert book.promise(Wish("you", MINE.digest), OFFER, 10.0).ticket is not None
    assert book.redeem(MINE, 11.0)
    assert book.promise(MINE, OFFER, 11.0).ticket is not None


def test_who_comes_back_at_its_moment_is_let_in_once() -> None:
    book = a_book()
    ticket = book.promise(MINE, OFFER, 10.0).ticket
    assert not book.redeem(MINE, 10.5, ticket=ticket)
    assert book.redeem(MINE, 11.0, ticket=ticket)
    assert not book.redeem(MINE, 11.0, ticket=ticket)


def test_without_its_ticket_a_request_is_known_by_who_asks_for_what() -> None:
    book = a_book()
    book.promise(MINE, OFFER, 10.0)
    assert not book.redeem(OTHER, 11.0)
    assert not book.redeem(Wish("you", MINE.digest), 11.0)
    assert book.redeem(MINE, 11.0)


def test_a_ticket_holds_for_a_changed_wish_but_not_for_another_tenant() -> None:
    book = a_book()
    ticket = book.promise(MINE, OFFER, 10.0).ticket
    assert not book.redeem(Wish("you", "c" * 64), 11.0, ticket=ticket)
    assert book.redeem(OTHER, 11.0, ticket=ticket)


def test_of_equal_wishes_the_earliest_promise_is_redeemed_first() -> None:
    book = a_book()
    for _ in range(3):
        book.promise(MINE, OFFER, 10.0)
    assert [book.redeem(MINE, at) for at in (11.0, 11.2, 11.5, 12.0, 12.5)] == [
        *(True, False, True, True, False)
    ]


def test_it_is_known_whether_what_was_promised_to_a_wish_is_due() -> None:
    book = a_book()
    book.promise(MINE, OFFER, 10.0)
    book.promise(MINE, OFFER, 10.0)
    assert not book.is_due(MINE, 10.5)
    assert (book.is_due(MINE, 11.5), book.is_due(OTHER, 11.5)) == (True, False)
    assert not book.is_due(Wish("you", MINE.digest), 11.5)
    assert book.redeem(MINE, 11.5)
    assert book.is_due(MINE, 11.5)
    assert book.redeem(MINE, 11.5)
    assert not book.is_due(MINE, 11.5)


def test_promises_of_one_wish_are_kept_in_whatever_order_their_tickets_come() -> None:
    dice, book = random.Random(7), a_book(promises_max=500, horizon_s=1e6, grace_s=1e6)
    tickets = [book.promise(MINE, OFFER, 10.0).ticket for _ in range(200)]
    dice.shuffle(tickets)
    for ticket in tickets[:150]:
        assert book.redeem(MINE, 1e5, ticket=ticket)
        assert not book.redeem(OTHER, 1e5, ticket=ticket)
    for _ in range(50):
        assert book.redeem(MINE, 1e5)
    assert not book.redeem(MINE, 1e5)
    assert (len(book), book.redeemed) == (0, 200)
    assert book._by_wish == {}


def test_ten_thousand_promises_are_nothing_to_the_collector() -> None:
    book = a_book(promises_max=10_000, horizon_s=1e6)
    for number in range(10_000):
        book.promise(Wish("me", f"{number:016x}"), OFFER, 10.0)
    assert len(book) == 10_000
    gc.collect()
    assert not any(map(gc.is_tracked, book._by_ticket.values()))
    assert not any(map(gc.is_tracked, book._by_wish.values()))
    assert not any(map(gc.is_tracked, book._ending))


def test_who_comes_too_early_is_told_the_same_moment() -> None:
    book = a_book()
    first = book.promise(MINE, OFFER, 10.0)
    assert book.promise(MINE, OFFER, 10.7, ticket=first.ticket) == first
    assert book.made == 1


def test_who_comes_after_the_grace_has_lost_its_promise() -> None:
    book = a_book(grace_s=5.0)
    ticket = book.promise(MINE, OFFER, 10.0).ticket
    assert not book.redeem(MINE, 16.1, ticket=ticket)
    assert (len(book), book.missed) == (0, 1)


def test_a_full_book_names_a_moment_but_promises_nothing() -> None:
    book = a_book(promises_max=1)
    assert book.promise(MINE, OFFER, 10.0).ticket is not None
    beyond = book.promise(OTHER, OFFER, 10.0)
    assert (beyond.at, beyond.ticket) == (11.5, None)
    assert not book.redeem(OTHER, 11.5)


def test_no_moment_is_named_beyond_the_horizon() -> None:
    beyond = a_book(horizon_s=3.0).promise(MINE, Offer(wait_s=4.0, gap_s=0.5), 10.0)
    assert (beyond.at, beyond.ticket) == (13.0, None)


def test_promised_work_is_expected_in_the_time_it_falls_due() -> None:
    book = a_book()
    assert book.flow(2.0, 10.0) == 0.0
    for _ in range(4):
        book.promise(MINE, OFFER, 10.0)
    assert book.flow(2.0, 10.0) == pytest.approx(2 / 2.0)  # those of 11.0 and 11.5
    assert book.flow(3.0, 10.0) == pytest.approx(4 / 3.0)
    assert book.flow(2.0, 13.0) == 0.0


def test_work_of_those_who_never_come_back_is_not_expected_for_long() -> None:
    book = a_book(grace_s=0.0, promises_max=1000, horizon_s=1000.0)
    for _ in range(200):
        book.promise(MINE, OFFER, 10.0)
    assert book.share == 1.0
    assert book.flow(10.0, 40.0) < 0.2
    assert book.flow(10.0, 60.0) < 0.02


def test_a_book_forgets_what_is_done_with() -> None:
    book = a_book(promises_max=10_000, grace_s=0.0, horizon_s=1e6)
    for turn in range(20_000):
        book.promise(MINE, Offer(wait_s=0.0, gap_s=0.5), turn * 0.5)
    assert len(book._ending) < 100
    assert len(book._room._places) < 100
    assert len(book._by_wish) <= 1


def test_promises_are_as_much_closer_as_fewer_are_redeemed() -> None:
    book = a_book(grace_s=0.0, promises_max=10_000, horizon_s=1000.0)
    for turn in range(200):
        book.promise(MINE, Offer(wait_s=0.0, gap_s=0.5), turn * 10.0)
    assert book.share < 0.01
    first, *_, last = [book.promise(MINE, OFFER, 2000.0).at for _ in range(101)]
    assert last - first == pytest.approx(100 * 0.5 * 0.1, rel=0.1)


def test_room_that_those_who_stay_away_leave_is_promised_again() -> None:
    book = a_book(grace_s=0.0, promises_max=10_000, horizon_s=1000.0)
    for _ in range(400):
        far = book.promise(MINE, OFFER, 10.0).at
    assert far == pytest.approx(211.0, abs=1.0)
    book.settle(80.0)
    assert book.share < 0.01
    assert book.promise(MINE, OFFER, 80.0).at == pytest.approx(81.0, abs=0.5)


def test_a_lane_that_hardly_moves_is_promised_without_endless_work() -> None:
    book = a_book(horizon_s=1e3)
    hardly = Offer(wait_s=1.0, gap_s=1e9, size=128)
    assert book.promise(MINE, hardly, 10.0).ticket is not None
    assert book.promise(OTHER, hardly, 10.0).ticket is None


def test_the_share_of_promises_that_are_redeemed_is_learned() -> None:
    book = a_book(grace_s=0.0, promises_max=1000, horizon_s=1000.0)
    for turn in range(300):
        now = turn * 10.0
        promise = book.promise(MINE, OFFER, now)
        if turn % 3 == 0:
            assert book.redeem(MINE, promise.at, ticket=promise.ticket)
    assert book.share == pytest.approx(1 / 3, abs=0.1)
