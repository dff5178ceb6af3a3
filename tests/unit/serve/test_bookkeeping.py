import asyncio
from dataclasses import replace
from typing import Any

import pytest

from forebay.accounts.prices import Price, Prices
from forebay.accounts.spending import Full, Granted, Most, Period, Share, Unit
from forebay.core.errors import Outcome, OverBudget, Overloaded
from forebay.core.visit import Visit
from forebay.serve.allowance import Cost
from tests.support.bookkeepers import (
    BUDGETED,
    MOST,
    RICH,
    SPENT,
    Desk,
    Keeps,
    asked_by,
    reserve,
    until,
)
from tests.support.books import ACME, ADA, NOON
from tests.support.redis import Said


async def test_the_most_that_a_request_can_cost_is_reserved_before(
    desk: Desk, keeps: Keeps
) -> None:
    await desk.keeper().reserve(BUDGETED, MOST)
    (ask,) = keeps.batches[0][0]
    assert ask.charged == (ADA, ACME), "the key has no budget"
    assert ask.most == Most(tokens=55, nanos=5_050)
    assert ask.lasts_s == 30 + 60, "until the deadline, and the grace"


async def test_what_was_spent_is_settled_after(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    keeper.settle(await keeper.reserve(BUDGETED, MOST), SPENT, outcome=Outcome.CANCELLED)
    await keeper.close()
    (settlement,) = keeps.settled
    assert settlement.id == keeps.batches[0][0][0].id
    assert [share.amount for share in settlement.shares] == [55, 5_050]
    usage = settlement.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.nanos) == (3, 4, 430)
    assert (usage.user, usage.tenant, usage.key_id, usage.model) == ("ada", "acme", "k1", "m")
    assert (usage.outcome, usage.at, usage.request_id) == ("cancelled", NOON, "req-1")


async def test_what_was_reserved_and_what_it_cost_is_noted_on_the_visit(desk: Desk) -> None:
    visit = Visit(id="req-1", method="POST", path="/", received=0.0)
    keeper = desk.keeper()
    reserved = await keeper.reserve(replace(BUDGETED, visit=visit), MOST)
    assert (visit.reserved_tokens, visit.cost_nanos) == (55, None)
    keeper.settle(reserved, SPENT, outcome=Outcome.OK)
    assert visit.cost_nanos == 430
    await keeper.close()


async def test_a_model_without_a_price_costs_nobody_knows_what(desk: Desk) -> None:
    visit = Visit(id="req-1", method="POST", path="/", received=0.0)
    keeper = desk.keeper()
    reserved = await keeper.reserve(replace(RICH, model="unpriced", visit=visit), MOST)
    keeper.settle(reserved, SPENT, outcome=Outcome.OK)
    assert (visit.reserved_tokens, visit.cost_nanos) == (None, None)
    await keeper.close()


async def test_settling_twice_is_settling_once(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    for request in (BUDGETED, RICH):
        reserved = await keeper.reserve(request, MOST)
        keeper.settle(reserved, SPENT, outcome=Outcome.OK)
        keeper.settle(reserved, SPENT, outcome=Outcome.OK)
    await keeper.close()
    assert len(keeps.settled) == 2


async def test_what_made_nothing_is_given_back_and_stands_in_no_ledger(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper()
    keeper.settle(await keeper.reserve(RICH, MOST), Cost(), outcome=Outcome.OVERLOADED)
    keeper.settle(await keeper.reserve(BUDGETED, MOST), Cost(), outcome=Outcome.OVERLOADED)
    await keeper.close()
    (settlement,) = keeps.settled
    assert settlement.usage is None
    assert settlement.shares


@pytest.mark.parametrize(
    ("unit", "asked", "words"),
    [
        (
            Unit.TOKENS,
            55,
            (
                "This request may cost 55 tokens, and of the 100 tokens that the user ada may spend"
                " per day 20 tokens are left: ask for less (max_tokens), wait until"
                " 2026-11-21 12:01 UTC, or have the budget raised."
            ),
        ),
        (
            Unit.NANOS,
            550,
            (
                "This request may cost 0.00000055 USD, and of the 0.0000001 USD that the user ada"
                " may spend per day 0.00000002 USD are left: ask for less (max_tokens), or have the"
                " budget raised."
            ),
        ),
    ],
)
async def test_a_refusal_says_which_budget_and_what_helps(
    desk: Desk, keeps: Keeps, unit: Unit, asked: int, words: str
) -> None:
    facts: dict[str, Any] = {"of": ADA, "period": Period.DAY, "resets_in_s": 60}
    keeps.reply = Full(**facts, unit=unit, limit=100, remaining=20, asked=asked)
    keeper = desk.keeper()
    with pytest.raises(OverBudget) as caught:
        await keeper.reserve(BUDGETED, MOST)
    assert caught.value.message == words
    assert list(keeper.holdings()) == []


async def test_while_the_database_is_away_callers_with_budgets_are_refused(
    desk: Desk, keeps: Keeps, said: Said
) -> None:
    keeper = desk.keeper()
    keeps.away = True
    for _ in range(2):
        with pytest.raises(Overloaded, match="Your budget cannot be checked") as caught:
            await keeper.reserve(BUDGETED, MOST)
        assert caught.value.retry_after_s == 1.0
    assert keeper.stats().away
    assert said.names == ["books.away"], "said once"


async def test_what_may_have_been_reserved_while_it_went_away_is_given_back(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper()
    keeps.away = True
    with pytest.raises(Overloaded):
        await keeper.reserve(BUDGETED, MOST)
    keeps.away = False
    await keeper.close()
    (settlement,) = keeps.settled
    assert (settlement.unreserved, settlement.usage) == ((ADA, ACME), None)


async def test_who_chooses_so_lets_budgets_go_while_the_database_is_away_and_charges_later(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper(when_away="allow")
    keeps.away = True
    keeper.settle(await keeper.reserve(BUDGETED, MOST), SPENT, outcome=Outcome.OK)
    keeps.away = False
    await keeper.close()
    (settlement,) = keeps.settled
    assert settlement.unreserved == (ADA, ACME)
    assert settlement.spent == Most(tokens=7, nanos=430)


async def test_a_caller_who_leaves_while_it_waits_holds_nothing(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    keeps.open.clear()
    waiting = asyncio.create_task(reserve(keeper))
    await until(keeps.begun)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    keeps.open.set()
    await keeper.close()
    ((asks, _), (_, (settlement,))) = keeps.batches
    assert (settlement.id, settlement.unreserved) == (asks[0].id, (ADA, ACME))
    assert list(keeper.holdings()) == []


async def test_who_left_before_it_was_asked_is_not_reserved_for(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    keeps.open.clear()
    first = asyncio.create_task(reserve(keeper))
    await until(keeps.begun)
    second = asyncio.create_task(reserve(keeper))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    keeps.open.set()
    await first
    await keeper.close()
    assert sum(len(asks) for asks, _ in keeps.batches) == 1


async def test_a_closed_bookkeeper_refuses_callers_with_budgets(desk: Desk) -> None:
    keeper = desk.keeper()
    await keeper.close()
    with pytest.raises(Overloaded):
        await keeper.reserve(BUDGETED, MOST)


async def test_a_model_without_a_price_is_named_once_where_there_are_money_budgets(
    desk: Desk, said: Said
) -> None:
    keeper = desk.keeper()
    for model in ("m", "free", "free", "m:version"):
        request = asked_by(budgeted=True, model=model)
        keeper.settle(await keeper.reserve(request, MOST), SPENT, outcome=Outcome.OK)
    assert said.events == [("budget.unpriced", {"model": "free"})]


async def test_what_is_reserved_keeps_the_price_that_it_was_reserved_at(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper()
    reserved = await keeper.reserve(BUDGETED, MOST)
    keeper.prices = Prices(by_model={"m": Price(prompt=10**6, completion=10**6)})
    keeper.settle(reserved, SPENT, outcome=Outcome.OK)
    await keeper.close()
    assert keeps.settled[0].spent.nanos == 430


async def test_what_is_held_is_listed_until_it_is_settled(desk: Desk) -> None:
    keeper = desk.keeper()
    await keeper.reserve(RICH, MOST)
    reserved = await keeper.reserve(BUDGETED, MOST)
    (holding,) = keeper.holdings()
    assert (holding.kind, holding.owner, holding.tenant) == ("reservation", "req-1", "acme")
    assert (holding.amount, holding.since, holding.expires) == (55, 100.0, 190.0)
    assert (keeper.stats().reservations, keeper.stats().reserved_tokens) == (1, 55)
    keeper.settle(reserved, SPENT, outcome=Outcome.OK)
    assert list(keeper.holdings()) == []


async def test_two_requests_of_one_id_are_two_reservations(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    for _ in range(2):
        keeper.settle(await keeper.reserve(BUDGETED, MOST), SPENT, outcome=Outcome.OK)
    await keeper.close()
    assert len({each.id for each in keeps.settled}) == 2
    assert len(keeps.settled) == 2


async def test_what_was_reserved_is_charged_once_and_to_the_moment_that_the_database_said(
    desk: Desk, keeps: Keeps
) -> None:
    keeps.reply = Granted(
        shares=(Share(budget_id=7, unit=Unit.TOKENS, amount=55, window_start=0),),
        at=NOON + 86_400,
        money=False,
    )
    keeper = desk.keeper()
    keeper.settle(await keeper.reserve(BUDGETED, MOST), SPENT, outcome=Outcome.OK)
    await keeper.close()
    (settlement,) = keeps.settled
    assert settlement.unreserved == (), "else it would be charged beside its reservation"
    assert [share.budget_id for share in settlement.shares] == [7]
    assert settlement.usage is not None
    assert settlement.usage.at == NOON + 86_400


async def test_nothing_is_reserved_for_longer_than_a_day(desk: Desk, keeps: Keeps) -> None:
    request = asked_by(budgeted=True, deadline=1e9)
    keeper = desk.keeper()
    await keeper.reserve(request, MOST)
    ((ask,), _) = keeps.batches[0]
    assert ask.lasts_s == 86_400
    (held,) = keeper.holdings()
    assert held.expires == held.since + 86_400
