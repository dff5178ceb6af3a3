import asyncio
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from forebay.accounts.config import AccountsAway
from forebay.accounts.spending import Budget, Charged, Period, Unit
from forebay.accounts.usage_report import By, Page, Question, Total, parse_moment
from forebay.core.caller import Account, Caller, Level, Right
from forebay.core.errors import Forbidden, Invalid, Overloaded, RateLimited
from forebay.gateway.config import GatewayConfig
from forebay.gateway.exchange import Exchange, Receive, Scope, Send
from forebay.gateway.usage import USAGE_PATH, Usage
from forebay.serve.clerks import Clerks
from tests.support import asgi
from tests.support.books import ACME, ADA, KEY, NOON, Wall

MONTH = parse_moment("2026-11-01")
CALLER = Caller(
    tenant="acme",
    user="ada",
    key_id="k1",
    rights=frozenset({Right.USAGE}),
    accounts=tuple(Account(level=each.level, id=each.account) for each in (KEY, ADA, ACME)),
)
ADMIN = Caller(tenant="acme", user="root", rights=frozenset(Right))


class Tables:
    """A ledger and budgets that say what they were asked, and in which thread."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.whose: list[frozenset[Charged]] = []
        self.threads: set[int] = set()
        self.away = False
        self.more = False
        self.answers = threading.Event()
        self.answers.set()

    def totals(self, question: Question) -> Page:
        self.threads.add(threading.get_ident())
        self.answers.wait(5)
        self.asked.append(question)
        if self.away:
            raise AccountsAway
        of = tuple(f"some {by}" for by in question.by)
        total = Total(of=of, requests=2, prompt_tokens=30, completion_tokens=4, nanos=150_000)
        return Page(totals=(total,), more=self.more)

    def find(self, charged: Iterable[Charged] | None = None) -> list[Budget]:
        self.threads.add(threading.get_ident())
        self.whose.append(frozenset(charged or ()))
        facts: dict[str, Any] = {"of": ADA, "period": Period.DAY, "window_start": NOON - 43_200}
        return [
            Budget(**facts, id=1, unit=Unit.TOKENS, limit=100, spent=60, reserved=30),
            Budget(**facts, id=2, unit=Unit.NANOS, limit=25 * 10**9, spent=150_000, reserved=0),
        ]


@pytest.fixture
def tables() -> Tables:
    return Tables()


async def get(
    tables: Tables, query: str = "", caller: Caller = CALLER, **headers: str
) -> asgi.Exchange:
    clerks = Clerks(threads=1, asked_max=4)
    usage = Usage(tables, tables, clerks, currency="EUR", wall=Wall())
    try:
        return await ask(usage, query, caller, **headers)
    finally:
        clerks.close()


async def ask(usage: Usage, query: str, caller: Caller, **headers: str) -> asgi.Exchange:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["query_string"] = query.encode()
        config = GatewayConfig()
        exchange = Exchange(scope, receive, send, config=config, now=lambda: 0.0)
        exchange.caller = caller
        await usage.page(exchange)

    return await asgi.ask(app, "GET", USAGE_PATH, **headers)


async def test_one_sees_what_oneself_has_used_this_month_by_day(tables: Tables) -> None:
    answer = await get(tables)
    assert tables.asked == [
        Question(since=MONTH, until=NOON + 1, by=(By.DAY,), user="ada", tenant="acme")
    ]
    assert answer.json["data"] == [
        {
            "day": "some day",
            "requests": 2,
            "prompt_tokens": 30,
            "completion_tokens": 4,
            "cost": "0.00015",
        }
    ]
    assert (answer.json["from"], answer.json["currency"]) == ("2026-11-01T00:00:00Z", "EUR")


async def test_one_sees_what_is_left_of_the_budgets_that_one_is_charged_to(tables: Tables) -> None:
    answer = await get(tables)
    assert tables.whose == [frozenset({KEY, ADA, ACME})]
    tokens, money = answer.json["budgets"]
    assert tokens == {
        "level": "user",
        "account": "ada",
        "unit": "tokens",
        "period": "day",
        "limit": 100,
        "spent": 60,
        "reserved": 30,
        "remaining": 10,
        "resets_at": "2026-11-22T00:00:00Z",
    }
    assert (money["unit"], money["limit"], money["spent"]) == ("money", "25.00", "0.00015")


async def test_the_database_is_asked_off_the_event_loop(tables: Tables) -> None:
    await get(tables)
    assert threading.get_ident() not in tables.threads


@pytest.mark.parametrize("field", ["user", "tenant", "key"])
async def test_only_an_admin_sees_the_usage_of_others(tables: Tables, field: str) -> None:
    for name in ("grace", "ada", "*"):
        with pytest.raises(Forbidden, match=f"{field}: only the right 'admin'") as caught:
            await get(tables, f"{field}={name}")
        assert caught.value.param == field
    assert tables.asked == []
    await get(tables, f"{field}=grace", ADMIN)
    assert getattr(tables.asked[0], field) == "grace"
    assert tables.whose == [frozenset({Charged(level=Level(field), account="grace")})]


async def test_an_admin_sees_everybody_by_a_star_and_itself_without(tables: Tables) -> None:
    everybody = await get(tables, "user=*&by=user", ADMIN)
    await get(tables, "", ADMIN)
    assert [(each.user, each.tenant) for each in tables.asked] == [(None, None), ("root", "acme")]
    assert everybody.json["budgets"] == []


async def test_a_caller_without_a_name_sees_its_tenant(tables: Tables) -> None:
    await get(tables, "", Caller(tenant="acme", rights=frozenset({Right.USAGE})))
    assert [(each.user, each.tenant) for each in tables.asked] == [(None, "acme")]


@pytest.mark.parametrize(
    ("query", "accept"),
    [("format=csv", ""), ("", "text/csv"), ("", "Text/CSV; q=0.9"), ("format=csv", "*/*")],
)
async def test_csv_is_had_by_the_query_or_the_header(
    tables: Tables, query: str, accept: str
) -> None:
    answer = await get(tables, f"{query}&by=model" if query else "by=model", accept=accept)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    assert answer.content.decode().splitlines() == [
        "model,requests,prompt_tokens,completion_tokens,cost,currency",
        "some model,2,30,4,0.00015,EUR",
    ]
    assert tables.whose == [], "no budgets are read for what does not show them"


async def test_json_is_had_where_both_are_named(tables: Tables) -> None:
    assert (await get(tables, "format=json", accept="text/csv")).json["object"] == "usage"


async def test_a_range_and_a_page_are_asked_for_as_they_are_named(tables: Tables) -> None:
    tables.more = True
    query = "from=2026-11-02&to=2026-11-03T12:00:00Z&by=hour,model&limit=10&page=3"
    answer = await get(tables, query)
    (asked,) = tables.asked
    assert (asked.since, asked.until) == (MONTH + 86_400, MONTH + 216_000)
    assert (asked.by, asked.rows_max, asked.offset) == ((By.HOUR, By.MODEL), 10, 20)
    assert answer.json["has_more"] is True


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("by=week", "by", "expected one to 3 of hour, day"),
        ("by=", "by", "expected one to 3"),
        ("from=yesterday", "from", "a day such as 2026-11-21"),
        ("to=9999-01-01", "to", "of a year from 1970"),
        ("from=2026-11-03&to=2026-11-03", "from", "must be earlier than to"),
        ("from=2027-01-01", "from", "must be earlier than to"),
        ("format=xml", "format", "expected one of json, csv"),
        ("limit=0", "limit", "a whole number from 1 to 10000"),
        ("limit=10001", "limit", "a whole number from 1 to 10000"),
        ("page=0", "page", "a whole number from 1 to"),
        ("page=-1", "page", "a whole number from 1 to"),
        ("month=11", "month", "not known here; this route takes by, format, from"),
        ("by=day&by=model", "by", "stands twice"),
    ],
)
async def test_what_is_wrong_is_named_with_what_is_taken(
    tables: Tables, query: str, field: str, words: str
) -> None:
    with pytest.raises(Invalid, match=words) as caught:
        await get(tables, query, ADMIN)
    assert caught.value.param == field
    assert tables.asked == []


@pytest.mark.parametrize("name", ["", "a%00b", "a" * 257])
async def test_what_is_no_name_is_refused(tables: Tables, name: str) -> None:
    with pytest.raises(Invalid, match=r"user: expected a name of at most 256 characters, or \*"):
        await get(tables, f"user={name}", ADMIN)


async def test_while_the_database_is_away_one_is_told_to_come_again(tables: Tables) -> None:
    tables.away = True
    with pytest.raises(Overloaded, match="cannot be asked at the moment") as caught:
        await get(tables)
    assert caught.value.retry_after_s == 1.0


async def test_a_tenant_that_asks_much_keeps_nobody_else_from_asking(tables: Tables) -> None:
    tables.answers.clear()
    clerks = Clerks(threads=1, asked_max=8)
    usage = Usage(tables, tables, clerks, currency="EUR", wall=Wall())
    other = Caller(tenant="other", user="grace")
    waiting = [asyncio.create_task(ask(usage, "", CALLER)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await ask(usage, "", CALLER)
    theirs = asyncio.create_task(ask(usage, "", other))
    await asyncio.sleep(0)
    tables.answers.set()
    for answer in await asyncio.gather(*waiting, theirs):
        assert answer.status == 200
    assert (await ask(usage, "", CALLER)).status == 200
    clerks.close()
