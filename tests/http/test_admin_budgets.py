"""The administrator's routes over budgets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.accounts.budgets import Books
from forebay.accounts.config import AccountsAway, AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.core.caller import RIGHTS, Caller, Role
from forebay.gateway.admin_budgets import BudgetsAdmin
from forebay.serve.clerks import Clerks
from tests.support.asgi import Exchange, ask
from tests.support.gateways import Stage, a_stage, keys

KEYS = {
    "root": Caller(user="root", rights=RIGHTS[Role.ADMIN]),
    "operator": Caller(user="o", rights=RIGHTS[Role.OPERATOR]),
}


class Office:
    """A closed gateway over budgets of its own."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(AccountsConfig(url=default_url(folder)))
        self.database.migrate()
        self.clerks = Clerks(threads=1, asked_max=8)
        self.changes: list[object] = []
        self.notes: list[tuple[object, ...]] = []
        admin = BudgetsAdmin(
            Books(self.database),
            self.clerks,
            changed=lambda: self.changes.append(1),
            note=lambda _, action, target, /, **details: self.notes.append(
                (action.value, target, details)
            ),
        )
        self.stage: Stage = a_stage(credentials=keys(KEYS), extra=admin.endpoints())

    async def ask(self, path: str, body: Any = None, *, key: str = "root") -> tuple[int, Any]:
        method = "GET" if body is None else "POST"
        answer = await ask(self.stage.gateway, method, path, body, authorization=f"Bearer {key}")
        return answer.status, answer.json


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path)
    yield found
    found.clerks.close()
    found.database.close()


async def test_a_budget_is_set_changed_listed_and_removed(office: Office) -> None:
    key = {"level": "user", "account": "ann", "unit": "money", "period": "day"}
    status, made = await office.ask("/admin/budgets", key | {"limit": "25.50"})
    assert (status, made["limit"], made["remaining"]) == (200, "25.50", "25.50")
    status, changed = await office.ask("/admin/budgets", key | {"limit": "10"})
    assert (status, changed["limit"]) == (200, "10.00")
    (listed,) = (await office.ask("/admin/budgets"))[1]["budgets"]
    assert (listed["level"], listed["account"], listed["unit"]) == ("user", "ann", "money")
    assert (await office.ask("/admin/budgets/remove", key))[0] == 200
    assert (await office.ask("/admin/budgets"))[1]["budgets"] == []
    assert (await office.ask("/admin/budgets/remove", key))[0] == 404
    assert [note[0] for note in office.notes] == ["budget.set", "budget.set", "budget.removed"]
    assert len(office.changes) == 3, "callers that are remembered know of no budget"


@pytest.mark.parametrize(
    ("order", "param"),
    [
        ({"limit": "lots"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1" * 30}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": "1.0000000001", "unit": "money"}, "limit"),
        ({"limit": "5", "level": "planet"}, "level"),
        ({"limit": "5", "account": ""}, "account"),
        ({"limit": "5", "account": "a\nb"}, "account"),
        ({"limit": "5", "period": "week"}, "period"),
        ({"limit": 5}, "limit"),
    ],
)
async def test_a_wrong_budget_is_refused_by_its_field(
    office: Office, order: dict[str, Any], param: str
) -> None:
    status, answer = await office.ask("/admin/budgets", {"level": "user", "account": "x"} | order)
    assert (status, answer["param"]) == (400, param)
    assert office.notes == []


async def test_an_operator_sets_no_budgets(office: Office) -> None:
    order = {"level": "user", "account": "x", "limit": "5"}
    assert (await office.ask("/admin/budgets", order, key="operator"))[0] == 403


async def test_a_budget_is_of_one_period_and_one_unit_and_what_was_done_names_both(
    office: Office,
) -> None:
    of = {"level": "tenant", "account": "acme"}
    for unit, period in (("tokens", "day"), ("tokens", "month"), ("money", "month")):
        order = of | {"unit": unit, "period": period, "limit": "7"}
        made = (await office.ask("/admin/budgets", order))[1]
        assert (made["unit"], made["period"]) == (unit, period)
    assert len((await office.ask("/admin/budgets"))[1]["budgets"]) == 3
    assert (await office.ask("/admin/budgets/remove", of | {"period": "day"}))[0] == 200
    left = (await office.ask("/admin/budgets"))[1]["budgets"]
    assert [(each["unit"], each["period"]) for each in left] in (
        [("money", "month"), ("tokens", "month")],
        [("tokens", "month"), ("money", "month")],
    )
    details = {"unit": "nanos", "period": "month", "limit": "7"}
    assert office.notes[2] == ("budget.set", "tenant:acme", details)
    removed = {"unit": "tokens", "period": "day"}
    assert office.notes[3] == ("budget.removed", "tenant:acme", removed)


@pytest.mark.parametrize("limit", ["\u00b2", "\u0663", "1" * 20, str(2**62 + 1)])
async def test_a_number_of_tokens_is_written_in_plain_digits_and_bounded(
    office: Office, limit: str
) -> None:
    order = {"level": "user", "account": "ann", "limit": limit}
    status, answer = await office.ask("/admin/budgets", order)
    assert (status, answer["param"]) == (400, "limit")
    assert (office.notes, office.changes) == ([], [])


async def test_the_list_of_budgets_takes_no_query(office: Office) -> None:
    answer = Exchange(office.stage.gateway, "GET", "/admin/budgets", authorization="Bearer root")
    answer.scope["query_string"] = b"account=ann"
    await answer.body(b"").run()
    assert answer.status == 400
    assert "this route takes none" in answer.json["detail"]


async def test_while_the_accounts_are_away_no_budget_is_set(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise AccountsAway

    monkeypatch.setattr(Books, "set_limit", away)
    order = {"level": "user", "account": "ann", "limit": "5"}
    status, answer = await office.ask("/admin/budgets", order)
    assert (status, answer["code"]) == (503, "overloaded")
    assert (office.notes, office.changes) == ([], [])
