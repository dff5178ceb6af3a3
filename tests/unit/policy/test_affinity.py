"""Which of several equal servers: one beginning, one server, unless it is much busier."""

import random
from collections import Counter

from forebay.policy.affinity import Affinity, mark_of

NAMES = [f"http://10.0.0.{number}:8000" for number in range(5)]
ALL = range(5)
IDLE = [0.0] * 5


def affinity(names: list[str] = NAMES) -> Affinity:
    return Affinity(names, busier_ratio_max=2.0, busier_max=4)


def test_equal_beginnings_go_to_one_server_whatever_the_dice_say() -> None:
    mark = mark_of(b"You are a helpful assistant.")
    found = {affinity().choose(ALL, IDLE, mark, share=share / 10) for share in range(10)}
    assert len(found) == 1


def test_beginnings_spread_evenly_over_servers() -> None:
    marks = [mark_of(str(number).encode()) for number in range(5_000)]
    found = Counter(affinity().choose(ALL, IDLE, mark, share=0.0) for mark in marks)
    assert set(found) == set(ALL)
    assert all(850 < count < 1_150 for count in found.values())


def test_a_server_that_goes_moves_its_own_beginnings_only() -> None:
    chooser = affinity()
    marks = [mark_of(str(number).encode()) for number in range(1_000)]
    before = [chooser.choose(ALL, IDLE, mark, share=0.0) for mark in marks]
    after = [chooser.choose([0, 1, 3, 4], IDLE, mark, share=0.0) for mark in marks]
    assert all(now == then for then, now in zip(before, after, strict=True) if then != 2)
    assert {now for then, now in zip(before, after, strict=True) if then == 2} == {0, 1, 3, 4}


def test_the_order_of_the_servers_in_the_settings_does_not_matter() -> None:
    turned = NAMES[::-1]
    for number in range(100):
        mark = mark_of(str(number).encode())
        one = NAMES[affinity().choose(ALL, IDLE, mark, share=0.0)]
        assert turned[affinity(turned).choose(ALL, IDLE, mark, share=0.0)] == one


def test_a_server_that_is_much_busier_is_left_for_the_next_in_its_order() -> None:
    chooser, mark = affinity(), mark_of(b"hot")
    own = chooser.choose(ALL, IDLE, mark, share=0.0)
    loads = [3.0] * 5
    loads[own] = 10.0  # as near as may be: 2 * 3 + 4
    assert chooser.choose(ALL, loads, mark, share=0.0) == own
    loads[own] = 10.5
    second = chooser.choose(ALL, loads, mark, share=0.0)
    assert second != own
    others = [index for index in ALL if index != own]
    assert second == chooser.choose(others, loads, mark, share=0.9)


def test_a_hot_beginning_never_makes_one_server_much_busier() -> None:
    chooser, mark, loads = affinity(), mark_of(b"hot"), [0.0] * 5
    for _ in range(500):
        loads[chooser.choose(ALL, loads, mark, share=0.0)] += 1.0
    assert max(loads) <= 2.0 * min(loads) + 5.0


def test_without_a_mark_the_less_loaded_of_two_different_ones_is_taken() -> None:
    chooser, dice = affinity(), random.Random(1)
    found = Counter(
        chooser.choose(ALL, [0.0, 9.0, 9.0, 9.0, 9.0], None, share=dice.random())
        for _ in range(5_000)
    )
    assert 0.36 < found[0] / 5_000 < 0.44  # one of two draws of five: 2/5
    pairs = Counter(
        chooser.choose([1, 2], [0.0, 1.0, 2.0, 0.0, 0.0], None, share=dice.random())
        for _ in range(100)
    )
    assert pairs == {1: 100}


def test_the_only_one_that_is_able_is_taken_however_busy() -> None:
    assert affinity().choose([3], [0.0, 0.0, 0.0, 99.0, 0.0], mark_of(b"x"), share=0.5) == 3


def test_marks_are_the_same_in_every_process() -> None:
    assert mark_of(b"hello") == 0xA7B6EDA801E5347D
