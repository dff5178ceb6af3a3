"""The administrator's routes over users, tenants, keys and the audit log."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.accounts.audit import Audit
from forebay.accounts.audit_event import Action, AuditEvent
from forebay.accounts.config import AccountsAway, AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.core.caller import RIGHTS, Caller, Role
from forebay.gateway.admin_accounts import AccountsAdmin
from forebay.gateway.exchange import Exchange as Served
from forebay.serve.clerks import Clerks
from tests.support.asgi import Exchange
from tests.support.gateways import Stage, a_stage, keys

ROOT = Caller(user="root", rights=RIGHTS[Role.ADMIN])
KEYS = {"root": ROOT, "user": Caller(user="ann", rights=RIGHTS[Role.OPERATOR])}


class Office:
    """A closed gateway over an accounts database of its own."""

    def __init__(self, folder: Path) -> None:
        config = AccountsConfig(url=default_url(folder))
        self.database = Database(config)
        self.database.migrate()
        self.directory = Directory(self.database, config, now=lambda: 1_000.0)
        self.clerks = Clerks(threads=1, asked_max=8)
        self.changes = 0
        self.notes: list[tuple[str, str, dict[str, object]]] = []
        admin = AccountsAdmin(
            self.directory,
            Audit(self.database),
            self.clerks,
            changed=self.changed,
            note=self.note,
        )
        self.stage: Stage = a_stage(credentials=keys(KEYS), extra=admin.endpoints())

    def changed(self) -> None:
        self.changes += 1

    def note(self, _: Served, action: Action, target: str, /, **details: object) -> None:
        self.notes.append((action.value, target, details))

    async def ask(self, path: str, body: Any = None, *, key: str = "root") -> tuple[int, Any]:
        method = "GET" if body is None else "POST"
        path, _, query = path.partition("?")
        raw = b"" if body is None else json.dumps(body).encode()
        exchange = Exchange(self.stage.gateway, method, path, authorization=f"Bearer {key}")
        exchange.scope["query_string"] = query.encode()
        await exchange.body(raw).run()
        return exchange.status, exchange.json


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path)
    yield found
    found.clerks.close()
    found.database.close()


async def test_a_user_is_made_listed_changed_and_written_down(office: Office) -> None:
    limits = {"requests": "5/minute", "tokens": None, "concurrent": 2}
    status, made = await office.ask("/admin/users", {"name": "ann", "limits": limits})
    assert (status, made["tenant"], made["role"], made["limits"]) == (200, "ann", "user", limits)
    status, changed = await office.ask(
        "/admin/users/update", {"name": "ann", "role": "operator", "disabled": True}
    )
    assert (status, changed["role"], changed["disabled"]) == (200, "operator", True)
    assert changed["limits"] == limits, "what is not named stays"
    listed = (await office.ask("/admin/users"))[1]
    assert [user["name"] for user in listed["users"]] == ["ann"]
    assert office.notes == [
        ("user.created", "ann", {"role": "user", "tenant": "ann"}),
        ("user.changed", "ann", {"fields": "role disabled"}),
    ]
    assert office.changes == 1, "a new user changes nobody's credential"


async def test_a_password_stands_neither_in_an_answer_nor_in_the_log(office: Office) -> None:
    secret = "a very long passphrase 17"
    status, made = await office.ask("/admin/users", {"name": "ann", "password": secret})
    assert (status, made["has_password"]) == (200, True)
    await office.ask("/admin/users/update", {"name": "ann", "password": secret + "x"})
    assert secret not in str(office.notes) + str(made)
    assert office.notes[-1][2] == {"fields": "password"}


async def test_a_key_is_shown_once_replaced_and_revoked(office: Office) -> None:
    await office.ask("/admin/users", {"name": "ann"})
    order = {"user": "ann", "name": "ci", "scopes": ["infer"], "models": ["m"]}
    status, made = await office.ask("/admin/keys", order)
    assert (status, made["scopes"], made["models"]) == (200, ["infer"], ["m"])
    found = office.directory.caller_of_key(made["key"], 1_000.0)
    assert found is not None
    assert found.user == "ann"
    listed = (await office.ask("/admin/keys?user=ann"))[1]["keys"]
    assert [key["id"] for key in listed] == [made["id"]]
    assert "key" not in listed[0]
    status, again = await office.ask("/admin/keys/rotate", {"id": made["id"], "overlap_s": 60})
    assert (status, again["id"], again["old_ends_at"]) == (200, made["id"], 1_060.0)
    assert office.directory.caller_of_key(made["key"], 1_059.0) is not None
    assert office.directory.caller_of_key(made["key"], 1_061.0) is None
    status, gone = await office.ask("/admin/keys/revoke", {"id": made["id"]})
    assert (status, gone["revoked_at"]) == (200, 1_000.0)
    assert office.directory.caller_of_key(again["key"], 1_000.0) is None
    assert office.changes == 2
    assert made["key"] not in str(office.notes)


async def test_a_list_goes_on_where_its_part_ended(office: Office) -> None:
    for name in ("a", "b", "c"):
        await office.ask("/admin/users", {"name": name})
    first = (await office.ask("/admin/users?count=2"))[1]
    assert ([user["name"] for user in first["users"]], first["next"]) == (["a", "b"], "b")
    second = (await office.ask("/admin/users?count=2&after=b"))[1]
    assert ([user["name"] for user in second["users"]], second["next"]) == (["c"], None)


async def test_a_tenants_limits_are_set_and_its_users_shut_out(office: Office) -> None:
    await office.ask("/admin/users", {"name": "ann", "tenant": "acme"})
    order = {"name": "acme", "limits": {"tokens": "1000/hour"}, "disabled": True}
    status, changed = await office.ask("/admin/tenants/update", order)
    assert (status, changed["limits"]["tokens"], changed["disabled"]) == (200, "1000/hour", True)
    assert [each["name"] for each in (await office.ask("/admin/tenants"))[1]["tenants"]] == ["acme"]
    assert office.directory.caller_of_user("ann") is None


async def test_the_audit_log_is_read_the_latest_first_and_in_parts(office: Office) -> None:
    events = [
        (float(at), AuditEvent(action=Action.LOGIN, actor=actor))
        for at, actor in enumerate(("a", "b", "a"))
    ]
    Audit(office.database).add(events)
    page = (await office.ask("/admin/audit?count=2"))[1]
    assert [(event["at"], event["actor"]) for event in page["events"]] == [(2.0, "a"), (1.0, "b")]
    rest = (await office.ask(f"/admin/audit?before={page['next']}"))[1]
    assert [event["at"] for event in rest["events"]] == [0.0]
    of_b = (await office.ask("/admin/audit?actor=b"))[1]["events"]
    assert [event["at"] for event in of_b] == [1.0]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/admin/users", {"name": "a b"}, 400, "user must be 1 to 128 letters"),
        ("/admin/users", {"name": "ann", "role": "king"}, 400, "role"),
        ("/admin/users", {"name": "ann", "wish": 1}, 400, "wish"),
        ("/admin/users", {"name": "bob"}, 409, "bob already"),
        ("/admin/users", {"name": "x", "password": "admin123"}, 400, "password"),
        ("/admin/users", {"name": "x", "limits": {"requests": "lots"}}, 400, "limits.requests"),
        ("/admin/users/update", {"name": "nobody"}, 404, "No user"),
        ("/admin/keys", {"user": "nobody"}, 404, "No user"),
        ("/admin/keys", {"user": "bob", "scopes": ["admin"]}, 400, "rights of the user"),
        ("/admin/keys", {"user": "bob", "expires_in_s": -1}, 400, "expires_in_s"),
        ("/admin/keys/revoke", {"id": "../../x"}, 404, "No API key"),
        ("/admin/keys/rotate", {"id": "0123456789", "overlap_s": -1}, 400, "overlap_s"),
        ("/admin/users?count=0", None, 400, "count: expected a whole number from 1 to 1000"),
        ("/admin/users?wish=1", None, 400, "wish: not known here"),
        ("/admin/users?count=1&count=2", None, 400, "count: it stands twice"),
        ("/admin/users?%ff", None, 400, "query cannot be read"),
        ("/admin/audit?before=x", None, 400, "before: expected"),
    ],
)
async def test_a_wrong_order_is_refused_with_the_field_and_the_fix(
    office: Office, path: str, body: Any, status: int, words: str
) -> None:
    await office.ask("/admin/users", {"name": "bob"})
    found, answer = await office.ask(path, body)
    assert (found, words in answer["detail"]) == (status, True), answer["detail"]
    assert answer["title"]


@pytest.mark.parametrize("path", ["/admin/users", "/admin/keys", "/admin/audit", "/admin/tenants"])
async def test_an_operator_is_no_administrator(office: Office, path: str) -> None:
    assert (await office.ask(path, key="user"))[0] == 403


async def test_while_the_accounts_are_away_one_is_told_to_come_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise AccountsAway

    monkeypatch.setattr(Directory, "users", away)
    status, answer = await office.ask("/admin/users")
    assert (status, answer["code"]) == (503, "overloaded")


async def test_every_order_is_written_down_and_forgets_what_was_believed(office: Office) -> None:
    await office.ask("/admin/users", {"name": "ann"})
    made = (await office.ask("/admin/keys", {"user": "ann", "scopes": ["read", "infer"]}))[1]
    assert office.changes == 0, "neither changes anybody's credential"
    orders = [
        ("/admin/keys/rotate", {"id": made["id"], "overlap_s": 60}, "key.rotated", made["id"]),
        ("/admin/tenants/update", {"name": "ann", "disabled": False}, "tenant.changed", "ann"),
        ("/admin/users/update", {"name": "ann", "disabled": False}, "user.changed", "ann"),
        ("/admin/keys/revoke", {"id": made["id"]}, "key.revoked", made["id"]),
    ]
    for number, (path, body, *_) in enumerate(orders):
        assert (await office.ask(path, body))[0] == 200
        assert office.changes == number + 1, path
    assert [note[:2] for note in office.notes] == [
        ("user.created", "ann"),
        ("key.created", made["id"]),
        *((action, target) for _, _, action, target in orders),
    ]
    assert [note[2] for note in office.notes[1:]] == [
        {"user": "ann", "scopes": "infer read"},
        {"user": "ann", "overlap_s": 60.0},
        {"fields": "disabled"},
        {"fields": "disabled"},
        {"user": "ann"},
    ]


async def test_each_list_says_where_its_next_part_begins(office: Office) -> None:
    for name in ("a", "b", "c"):
        await office.ask("/admin/users", {"name": name})
        await office.ask("/admin/keys", {"user": name})
    await office.ask("/admin/keys", {"user": "c"})
    for path, field, named in (
        ("/admin/users?", "users", "name"),
        ("/admin/tenants?", "tenants", "name"),
        ("/admin/keys?", "keys", "id"),
        ("/admin/keys?user=c&", "keys", "id"),
    ):
        whole = (await office.ask(f"{path}count=100"))[1]
        first = (await office.ask(f"{path}count=1"))[1]
        rest = (await office.ask(f"{path}count=100&after={first['next']}"))[1]
        assert first["next"] == first[field][-1][named]
        assert (whole["next"], rest["next"]) == (None, None)
        assert first[field] + rest[field] == whole[field]
    assert [key["user"] for key in whole["keys"]] == ["c", "c"]


async def test_a_key_has_the_end_the_limits_and_the_models_that_were_ordered(
    office: Office,
) -> None:
    await office.ask("/admin/users", {"name": "ann"})
    before = time.time()
    limits = {"requests": "5/minute", "tokens": "9/hour", "concurrent": 1}
    order = {"user": "ann", "models": ["b", "a"], "expires_in_s": 60.0, "limits": limits}
    made = (await office.ask("/admin/keys", order))[1]
    assert before + 60.0 <= made["expires_at"] <= time.time() + 60.0
    assert (made["models"], made["limits"]) == (["a", "b"], limits)
    endless = (await office.ask("/admin/keys", {"user": "ann"}))[1]
    assert (endless["expires_at"], endless["models"]) == (None, None)
    for wrong in (0, 3_650 * 86_400 + 1):
        status, answer = await office.ask("/admin/keys", {"user": "ann", "expires_in_s": wrong})
        assert (status, answer["param"]) == (400, "expires_in_s")


async def test_a_users_limits_are_replaced_and_a_wrong_one_is_named(office: Office) -> None:
    await office.ask("/admin/users", {"name": "ann"})
    new = {"requests": "5/minute", "tokens": None, "concurrent": None}
    changed = (await office.ask("/admin/users/update", {"name": "ann", "limits": new}))[1]
    assert changed["limits"] == new
    wrong = {"name": "ann", "limits": {"tokens": "lots"}}
    status, answer = await office.ask("/admin/users/update", wrong)
    assert (status, answer["param"]) == (400, "limits.tokens")
    status, answer = await office.ask("/admin/users/update", {"name": "ann", "wish": 1})
    assert status == 400
    assert (await office.ask("/admin/audit", {}))[0] == 405


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("count=1001", "count: expected a whole number from 1 to 1000"),
        ("count=-1", "count: expected"),
        ("count=%C2%B2", "count: expected"),
        ("count=%D9%A3", "count: expected"),
        ("count=" + "0" * 12 + "1", "count: expected"),
        ("count", "query cannot be read"),
        ("count=", "count: expected"),
        ("after=%ff", "query cannot be read"),
        ("&".join(["a=1"] * 33), "query cannot be read"),
    ],
)
async def test_a_query_is_read_to_the_letter(office: Office, query: str, words: str) -> None:
    status, answer = await office.ask(f"/admin/users?{query}")
    assert status == 400
    assert words in answer["detail"]


@pytest.mark.parametrize(
    ("path", "body", "method"),
    [
        ("/admin/users", {"name": "x"}, "create_user"),
        ("/admin/keys/revoke", {"id": "0123456789"}, "revoke_key"),
        ("/admin/tenants", None, "tenants"),
        ("/admin/keys", None, "keys"),
    ],
)
async def test_while_the_accounts_are_away_no_order_is_written_down(
    office: Office, monkeypatch: pytest.MonkeyPatch, path: str, body: Any, method: str
) -> None:
    def away(*_: object, **__: object) -> None:
        raise AccountsAway

    monkeypatch.setattr(Directory, method, away)
    status, answer = await office.ask(path, body)
    assert (status, answer["code"]) == (503, "overloaded")
    assert (office.notes, office.changes) == ([], 0)
