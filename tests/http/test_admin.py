"""The operator's routes: what they tell, and to whom."""

import asyncio
import json

import pytest

from forebay.core.caller import RIGHTS, Caller, Right, Role
from forebay.core.errors import Outcome
from forebay.core.record import Holding
from forebay.gateway.admin import AdminConfig, InvalidSettings, Reloaded
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, a_stage, chat, hang, keys, said

KEY = "0123456789abcdef"
HOST = {"host": "127.0.0.1:8000"}


async def test_the_ledger_tells_what_came_in_how_it_ended_and_what_is_held() -> None:
    stage = a_stage(local=True, admin=AdminConfig(held_max=1), now=lambda: 50.0)
    stage.ledger.ask(
        lambda: [
            Holding(kind="place", owner="r1", tenant="t", since=40.0, expires=80.0),
            Holding(kind="place", owner="r2", since=45.0),
        ]
    )
    await stage.chat()
    await stage.chat(model="none")
    page = (await stage.get("/admin/ledger", **HOST)).json
    assert page["outcomes"] == dict.fromkeys(Outcome, 0) | {"ok": 1, "unknown_model": 1}
    assert (page["received"], page["in_flight"], page["balanced"]) == (2, 0, True)
    assert page["held"] == {
        "place": {
            "amount": 2,
            "overdue": 0,
            "omitted": 1,
            "holdings": [
                {"owner": "r1", "tenant": "t", "amount": 1, "age_s": 10.0, "expires_in_s": 30.0}
            ],
        }
    }


async def test_a_request_that_runs_is_in_flight_and_pages_that_answer_are_not_counted() -> None:
    stage = a_stage([hang], local=True)
    running = asyncio.create_task(stage.chat())
    while not stage.engine.asked:
        await asyncio.sleep(0)
    await stage.get("/health")
    page = (await stage.get("/admin/ledger", **HOST)).json
    assert (page["received"], page["in_flight"], page["imbalance"]) == (1, 1, 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    page = (await stage.get("/admin/ledger", **HOST)).json
    assert (page["in_flight"], page["outcomes"]["cancelled"], page["imbalance"]) == (0, 1, 0)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/nothing", None),
        ("GET", CHAT, None),
        ("GET", "/v1/models/none", None),
        ("GET", "/v1/streams/none", None),
        ("POST", CHAT, b"{"),
        ("POST", "/livez", b""),
    ],
)
async def test_the_ledger_balances_after_each_way_to_fail(
    method: str, path: str, body: bytes | None
) -> None:
    stage = a_stage(local=True)
    await ask(stage.gateway, method, path, body)
    balance = stage.ledger.balance()
    assert (balance.received, balance.in_flight, balance.imbalance) == (1, 0, 0)


async def test_the_ledger_balances_when_the_engine_and_the_client_fail() -> None:
    stage = a_stage([*said("x")[:2], RuntimeError("a defect")], local=True)
    await stage.chat(stream=True)
    await ask(stage.gateway, "POST", CHAT, chat(), x_request_id="same")
    await ask(stage.gateway, "GET", "/nothing", x_request_id="same")
    assert stage.ledger.balance().received == 3
    assert stage.ledger.imbalance == 0


@pytest.mark.parametrize(
    "headers",
    [
        HOST | {"x_forwarded_for": "10.0.0.1"},
        HOST | {"forwarded": "for=10.0.0.1"},
        HOST | {"origin": "http://evil.example"},
        HOST | {"x_forwarded_proto": "https"},
        HOST | {"x_forwarded_host": "api.example"},
        HOST | {"cf_connecting_ip": "10.0.0.1"},
        HOST | {"sec_fetch_site": "cross-site"},
        {"host": "evil.example:8000"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost:80@evil.example"},
        {"host": "[::1"},
        {"host": ""},
    ],
)
async def test_what_a_proxy_or_a_web_page_sent_is_not_from_this_machine(
    headers: dict[str, str],
) -> None:
    answer = await a_stage(local=True).get("/admin/ledger", **headers)
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["code"] == "forbidden"
    assert "access.mode=closed" in answer.json["detail"]


async def test_a_proxy_that_adds_no_header_is_known_by_its_old_protocol() -> None:
    exchange = Exchange(a_stage(local=True).gateway, "GET", "/admin/ledger", **HOST)
    exchange.scope["http_version"] = "1.0"
    await exchange.run()
    assert exchange.status == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
async def test_this_machine_may_ask_by_any_of_its_names(host: str) -> None:
    assert (await a_stage(local=True).get("/admin/ledger", host=host)).status == 200


async def test_a_server_that_others_reach_has_no_operator_in_open_mode() -> None:
    assert (await a_stage().get("/admin/ledger", **HOST)).status == 403


@pytest.mark.parametrize(
    "given",
    [None, "", "Bearer", "Bearer ", KEY, f"Basic {KEY}", f"Digest {KEY}", f"Bearer {KEY}x"],
)
async def test_in_closed_mode_all_show_a_key_also_at_this_machine(given: str | None) -> None:
    stage = a_stage(local=True, credentials=keys({KEY: Caller(rights=frozenset(Right))}))
    headers = HOST if given is None else HOST | {"authorization": given}
    answer = await stage.get("/admin/ledger", **headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json["code"] == "invalid_api_key"
    assert stage.record.outcome is Outcome.UNAUTHENTICATED


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_an_operators_key_opens_a_server_that_others_reach(scheme: str) -> None:
    operator = Caller(rights=RIGHTS[Role.OPERATOR])
    stage = a_stage(credentials=keys({KEY: operator}))
    answer = await stage.get("/admin/ledger", authorization=f"{scheme} {KEY}")
    assert answer.status == 200


async def test_a_users_key_does_not() -> None:
    stage = a_stage(local=True, credentials=keys({KEY: Caller(rights=RIGHTS[Role.USER])}))
    answer = await stage.get("/admin/ledger", authorization=f"Bearer {KEY}")
    assert answer.status == 403
    assert "operate" in answer.json["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/admin/ledger", "GET"), ("GET", "/admin/reload", "POST")],
)
async def test_each_route_names_its_method(method: str, path: str, allowed: str) -> None:
    answer = await ask(a_stage(local=True).gateway, method, path, b"", **HOST)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


async def test_a_reload_tells_what_was_applied_and_what_was_not() -> None:
    stage = a_stage(local=True)

    async def reload() -> Reloaded:
        return Reloaded(applied={"a.b": "1"}, refused={"server.port": "needs a restart"})

    stage.gateway.admin.reload = reload
    answer = await ask(stage.gateway, "POST", "/admin/reload", b"", **HOST)
    assert answer.status == 200
    assert answer.json == {"applied": {"a.b": "1"}, "refused": {"server.port": "needs a restart"}}


async def test_settings_that_are_wrong_are_told_as_a_problem() -> None:
    stage = a_stage(local=True)

    async def reload() -> Reloaded:
        raise InvalidSettings("A setting is wrong; nothing was changed.")

    stage.gateway.admin.reload = reload
    answer = await ask(stage.gateway, "POST", "/admin/reload", b"", **HOST)
    assert answer.status == 400
    assert json.loads(answer.content)["detail"].startswith("A setting is wrong")
