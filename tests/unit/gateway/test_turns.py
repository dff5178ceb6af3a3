import asyncio
from functools import partial

from forebay.gateway import turns as module
from forebay.gateway.turns import Turns

PER_TURN = module._PER_TURN


async def a_turn() -> None:
    """Let the loop turn once."""
    await asyncio.sleep(0)


async def test_a_few_begin_at_once_and_the_others_in_later_turns() -> None:
    turns, begun = Turns(), list[int]()
    for number in range(3 * PER_TURN):
        turns.begin(partial(begun.append, number))
    assert begun == list(range(PER_TURN))
    await a_turn()
    assert begun == list(range(2 * PER_TURN))
    await a_turn()
    assert begun == list(range(3 * PER_TURN))


async def test_nobody_overtakes_who_came_before() -> None:
    turns, begun = Turns(), list[int]()
    numbers = iter(range(10_000))
    for _ in range(20):
        for _ in range(PER_TURN + 5):
            turns.begin(partial(begun.append, next(numbers)))
        await a_turn()
    for _ in range(20):
        await a_turn()
    assert begun == list(range(20 * (PER_TURN + 5)))


async def test_each_turn_begins_with_all_its_places() -> None:
    turns, begun = Turns(), list[int]()
    for _ in range(5):
        begun.clear()
        for number in range(PER_TURN):
            turns.begin(partial(begun.append, number))
        assert len(begun) == PER_TURN
        await a_turn()


async def test_what_is_due_otherwise_comes_between() -> None:
    turns, seen = Turns(), list[str]()
    loop = asyncio.get_running_loop()

    def token() -> None:
        seen.append("token")
        if len(seen) < 5 * PER_TURN:
            loop.call_soon(token)

    for _ in range(4 * PER_TURN):
        turns.begin(partial(seen.append, "begun"))
    loop.call_soon(token)
    while seen.count("begun") < 4 * PER_TURN:
        await a_turn()
    last = len(seen) - seen[::-1].index("begun")
    between = seen[PER_TURN:last]
    assert between.count("token") == 2, "tokens waited until all had begun"
