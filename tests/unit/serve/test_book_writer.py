import asyncio

import pytest

from forebay.core.errors import Outcome, Overloaded
from forebay.serve.allowance import Cost
from tests.support.bookkeepers import (
    BUDGETED,
    MOST,
    RICH,
    SPENT,
    Desk,
    Keeps,
    reserve,
    until,
)
from tests.support.redis import Said


async def test_a_caller_without_budgets_never_waits_for_the_database(
    desk: Desk, keeps: Keeps
) -> None:
    keeps.open.clear()
    keeper = desk.keeper()
    coroutine = keeper.reserve(RICH, MOST)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)  # it ends without ever waiting
    keeper.settle(ended.value.value, SPENT, outcome=Outcome.OK)
    assert keeper.stats().rows_pending == 1
    keeps.open.set()
    await keeper.close()
    assert keeps.settled[0].usage is not None
    assert keeps.settled[0].shares == ()


async def test_what_gathers_during_one_transaction_is_written_in_the_next(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper()
    keeps.open.clear()
    first = asyncio.create_task(reserve(keeper))
    await until(keeps.begun)
    rest = [asyncio.create_task(reserve(keeper)) for _ in range(50)]
    keeper.settle(await keeper.reserve(RICH, MOST), SPENT, outcome=Outcome.OK)
    await asyncio.sleep(0)
    keeps.open.set()
    await asyncio.gather(first, *rest)
    assert [len(asks) for asks, _ in keeps.batches] == [1, 50]
    assert len({ask.id for asks, _ in keeps.batches for ask in asks}) == 51


async def test_rows_of_callers_without_budgets_are_kept_until_it_is_back(
    desk: Desk, keeps: Keeps, said: Said
) -> None:
    keeper = desk.keeper()
    keeps.away = True
    for _ in range(3):
        keeper.settle(await keeper.reserve(RICH, MOST), SPENT, outcome=Outcome.OK)
    await until(keeps.begun)
    assert keeper.stats().rows_pending == 3
    keeps.away = False
    await until(keeps.wrote)
    await keeper.close()
    assert len(keeps.settled) == 3
    assert said.names == ["books.away", "books.back"]


async def test_rows_beyond_the_most_are_lost_loudly(desk: Desk, keeps: Keeps, said: Said) -> None:
    keeper = desk.keeper(rows_max=2)
    keeps.open.clear()
    for _ in range(5):
        keeper.settle(await keeper.reserve(RICH, MOST), SPENT, outcome=Outcome.OK)
    stats = keeper.stats()
    assert (stats.rows_pending, stats.rows_lost) == (2, 3)
    assert said.names == ["usage.lost"]
    keeps.open.set()
    await keeper.close()
    assert len(keeps.settled) == 2


async def test_what_was_reserved_is_settled_however_many_rows_wait(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper(rows_max=1)
    reserved = [await keeper.reserve(BUDGETED, MOST) for _ in range(5)]
    keeps.open.clear()
    for each in reserved:
        keeper.settle(each, SPENT, outcome=Outcome.OK)
    assert keeper.stats().rows_lost == 0
    keeps.open.set()
    await keeper.close()
    assert len(keeps.settled) == 5


async def test_a_database_that_hangs_is_not_waited_for_longer_than_is_said(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper(answer_s_max=0.05)
    keeps.open.clear()
    with pytest.raises(Overloaded):
        await keeper.reserve(BUDGETED, MOST)
    keeps.open.set()
    await keeper.close()
    (ask,) = keeps.batches[0][0]
    assert [each.id for each in keeps.settled] == [ask.id], "given back"


async def test_one_row_that_the_database_refuses_is_lost_alone(
    desk: Desk, keeps: Keeps, said: Said
) -> None:
    keeper = desk.keeper()
    keeps.open.clear()
    reserved = [await keeper.reserve(RICH, MOST) for _ in range(4)]
    for each in reserved:
        keeper.settle(each, SPENT, outcome=Outcome.OK)
    keeps.unfit = reserved[1].id  # type: ignore[attr-defined]
    keeps.open.set()
    await keeper.close()
    assert [each.id for each in keeps.settled] == [
        each.id  # type: ignore[attr-defined]
        for each in reserved
        if each is not reserved[1]
    ]
    assert keeper.stats().rows_lost == 1
    assert said.names == ["usage.lost"]


async def test_what_cannot_be_written_before_the_end_is_lost_loudly(
    keeps: Keeps, said: Said
) -> None:
    keeper = Desk(keeps, said).keeper(closing_s=0.1)
    keeper.settle(await keeper.reserve(RICH, MOST), SPENT, outcome=Outcome.OK)
    keeps.away = True
    await keeper.close()
    assert (keeper.stats().rows_lost, said.names[-1]) == (1, "usage.lost")


async def test_an_overrun_is_counted_and_said(desk: Desk, keeps: Keeps, said: Said) -> None:
    keeper = desk.keeper()
    reserved = await keeper.reserve(BUDGETED, MOST)
    keeps.overruns = 1
    keeper.settle(reserved, Cost(completion_tokens=10_000), outcome=Outcome.OK)
    await keeper.close()
    assert keeper.stats().overruns == 1
    assert said.names == ["budget.overrun"]


async def test_reservations_of_dead_gateways_are_looked_for(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    await keeper.reserve(BUDGETED, MOST)
    await keeper.close()
    assert keeps.sweeps >= 1


async def test_with_nothing_to_write_it_is_found_out_all_the_same_that_the_database_is_back(
    desk: Desk, keeps: Keeps, said: Said
) -> None:
    keeps.away = True
    keeper = desk.keeper(closing_s=0.1)
    with pytest.raises(Overloaded):
        await reserve(keeper)
    await keeper.close()
    writer = keeper._writer
    writer._settlements.clear()  # of that one
    keeps.away, writer._ending_at, writer._sweep_at, writer._retry_at = False, None, 0.0, 0.0
    assert writer.away
    writer._tidy()
    assert not writer.away
    assert said.names[-1] == "books.back"
