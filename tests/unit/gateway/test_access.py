"""Who is let in to a route, and what is noted of it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forebay.accounts.audit_event import Action, AuditEvent
from forebay.core.caller import RIGHTS, Account, Caller, Level, Right, Role
from forebay.core.clock import ManualClock
from forebay.core.errors import (
    Forbidden,
    Invalid,
    Outcome,
    Overloaded,
    ServingError,
    Unauthenticated,
)
from forebay.gateway.access import CREDENTIAL_BYTES_MAX, Access
from forebay.gateway.client_address import TrustedProxies
from forebay.gateway.exchange import Exchange
from forebay.gateway.problems import WrongMethod
from forebay.gateway.routing import NOTHING, Endpoint, Table
from forebay.serve.clerks import Clerks
from forebay.serve.credentials import AccessConfig, Credentials
from forebay.serve.limiter import MemoryLimiter
from forebay.serve.limits import Limits, OverRate, Probe
from forebay.serve.limits_config import LimitsConfig
from tests.support.gateways import keys

ANN = Caller(
    tenant="acme",
    user="ann",
    rights=RIGHTS[Role.ADMIN],
    accounts=(Account(level=Level.USER, id="ann"),),
)
GUESTS = {Right.INFER, Right.READ, Right.USAGE, Right.METRICS}


def asked(client: str = "192.0.2.7", **headers: str) -> Exchange:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    found = SimpleNamespace(
        caller=None,
        client=(client, 1),
        headers=named,
        http_version="1.1",
        id="r1",
        method="GET",
        path="/somewhere",
        standings=(),
    )
    return cast("Exchange", found)


async def nothing(_: Exchange) -> None:
    """Serve nothing."""


def a_route(right: Right | None, **facts: Any) -> Endpoint:
    return Endpoint(serve=nothing, methods=("GET",), right=right, **facts)


def limited(**rates: str) -> Limits:
    config, now = LimitsConfig(**rates), ManualClock()  # type: ignore[arg-type]  # those are rates
    return Limits(MemoryLimiter(config, now), config, now, closed=True)


def closed(limits: Limits | None = None) -> Access:
    return Access(credentials=keys({"ann": ANN, "x" * CREDENTIAL_BYTES_MAX: ANN}), limits=limits)


@pytest.mark.parametrize("right", [*Right, None])
async def test_a_guest_of_the_open_mode_may_what_costs_nobody_else_anything(
    right: Right | None,
) -> None:
    exchange = asked(host="127.0.0.1")
    if right is None or right in GUESTS:
        await Access(local=False).admit(exchange, a_route(right))
        assert exchange.caller.rights == GUESTS
    else:
        with pytest.raises(Forbidden):
            await Access(local=False).admit(exchange, a_route(right))
    await Access(local=True).admit(asked(host="127.0.0.1"), a_route(right))


@pytest.mark.parametrize("right", [*Right, None])
async def test_what_users_do_is_counted_and_what_operators_do_is_not(right: Right | None) -> None:
    access = closed(limited(requests="1/minute"))
    shown = {"authorization": "Bearer ann"}
    route = a_route(right, known=True)
    await access.admit(asked(**shown), route)
    if right in RIGHTS[Role.USER]:
        with pytest.raises(OverRate):
            await access.admit(asked(**shown), route)
    else:
        await access.admit(asked(**shown), route)


async def test_what_is_open_to_the_known_is_closed_to_all_others() -> None:
    access, route = closed(), a_route(None, known=True)
    for headers in ({}, {"authorization": "Bearer wrong"}):
        with pytest.raises(Unauthenticated):
            await access.admit(asked(**headers), route)
    exchange = asked(authorization="Bearer ann")
    await access.admit(exchange, route)
    assert exchange.caller is ANN


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer   ann"},
        {"authorization": "Bearer ann \t "},
        {"authorization": "bEARER ann"},
        {"x_api_key": " \tann "},
        {"authorization": " ", "x_api_key": "ann"},
        {"authorization": "Bearer ann", "x_api_key": " "},
    ],
)
async def test_blanks_around_a_credential_are_none_of_it(headers: dict[str, str]) -> None:
    exchange = asked(**headers)
    await closed().admit(exchange, a_route(Right.ADMIN))
    assert exchange.caller is ANN


@pytest.mark.parametrize("name", ["authorization", "x_api_key"])
async def test_a_credential_longer_than_any_is_not_looked_up(name: str) -> None:
    access = closed()
    longest = "x" * CREDENTIAL_BYTES_MAX
    for given, taken in ((longest, True), (longest + "x", False)):
        exchange = asked(**{name: f"Bearer {given}" if name == "authorization" else given})
        if taken:
            await access.admit(exchange, a_route(Right.READ))
        else:
            with pytest.raises(Unauthenticated, match=f"longer than {CREDENTIAL_BYTES_MAX} bytes"):
                await access.admit(exchange, a_route(Right.READ))


async def test_a_prober_is_counted_by_address_unless_it_is_known() -> None:
    access = closed(limited(health="1/minute"))
    route = a_route(None, probe=Probe.HEALTH)
    await access.admit(asked(), route)
    for _ in range(3):
        known = asked(authorization="Bearer ann")
        await access.admit(known, route)
        assert known.caller is ANN
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}):
        with pytest.raises(OverRate):
            await access.admit(asked(**headers), route)
    await access.admit(asked("192.0.2.8"), route)


async def test_a_prober_behind_a_proxy_is_counted_by_its_own_address() -> None:
    proxies = TrustedProxies.parse("192.0.2.7")
    limits = limited(health="1/minute")
    access = Access(credentials=keys({}), limits=limits, proxies=proxies)
    route = a_route(None, probe=Probe.HEALTH)
    await access.admit(asked(x_forwarded_for="203.0.113.1"), route)
    await access.admit(asked(x_forwarded_for="203.0.113.2"), route)
    with pytest.raises(OverRate):
        await access.admit(asked(x_forwarded_for="203.0.113.1"), route)


async def test_what_is_open_to_all_and_no_probe_is_never_counted() -> None:
    access = closed(limited(health="1/minute", probes="1/minute"))
    for _ in range(3):
        exchange = asked()
        await access.admit(exchange, a_route(None))
        assert exchange.standings == ()


async def test_several_requests_are_charged_beside_the_first() -> None:
    access = closed(limited(requests="4/minute"))
    exchange = asked(authorization="Bearer ann")
    await access.admit(exchange, a_route(Right.INFER))
    await access.charge(exchange, 3)
    assert len(exchange.standings) == 2
    with pytest.raises(OverRate):
        await access.charge(exchange, 1)
    with pytest.raises(Invalid):
        await access.charge(exchange, 5)


@pytest.mark.parametrize(
    "error", [Unauthenticated("x"), Forbidden("x"), Invalid("x"), Overloaded("x", retry_after_s=1)]
)
async def test_who_was_denied_is_written_down_and_other_failures_are_not(
    error: ServingError,
) -> None:
    access, noted = closed(), list[AuditEvent]()
    access.note = noted.append
    exchange = asked(authorization="Bearer ann")
    await access.admit(exchange, a_route(Right.READ))
    access.failed(exchange, error, a_route(None))
    assert not noted, "what is open to all writes for itself"
    access.failed(exchange, error, a_route(Right.READ))
    if error.outcome in {Outcome.UNAUTHENTICATED, Outcome.FORBIDDEN}:
        (event,) = noted
        assert (event.action, event.outcome) == (Action.DENIED, error.outcome)
        assert (event.actor, event.target) == ("ann", "GET /somewhere")
        assert (event.address, event.request_id) == ("192.0.2.7", "r1")
    else:
        assert not noted


async def test_what_was_done_is_written_down_as_done() -> None:
    access, noted = closed(), list[AuditEvent]()
    access.note = noted.append
    exchange = asked(authorization="Bearer ann")
    await access.admit(exchange, a_route(Right.OPERATE))
    access.did(exchange, Action.SETTINGS_READ)
    (event,) = noted
    assert (event.action, event.outcome, event.actor) == (Action.SETTINGS_READ, Outcome.OK, "ann")


async def test_strangers_are_told_apart_by_what_they_show_and_the_latest_are_remembered() -> None:
    access, route = Access(), a_route(Right.INFER)

    async def tenant(**headers: str) -> str:
        exchange = asked(**headers)
        await access.admit(exchange, route)
        return exchange.caller.tenant

    bearer, key = await tenant(authorization="Bearer a"), await tenant(x_api_key="a")
    assert len({bearer, key, await tenant(x_api_key="Bearer a"), await tenant()}) == 4
    assert await tenant(authorization="Bearer a") == bearer
    for number in range(1_100):
        await tenant(x_api_key=str(number))
    assert len(access._strangers) == 1_000
    assert b"x-api-key 1099" in access._strangers
    assert b"x-api-key 0" not in access._strangers
    assert await tenant(authorization="Bearer a") == bearer, "its name is made from what it shows"


async def test_how_long_credentials_are_believed_changes_with_the_settings() -> None:
    now, asked_of = ManualClock(), list[str]()

    def finder(given: str) -> Caller:
        asked_of.append(given)
        return ANN

    config = AccessConfig(mode="closed", cached_s=5.0)
    clerks = Clerks(threads=1, asked_max=8)
    credentials = Credentials(finder, config, clerks=clerks, now=now, wall=now)
    access = Access(config, credentials=credentials)
    await access.admit(asked(x_api_key="a"), a_route(Right.READ))
    now.advance(4.0)
    await access.admit(asked(x_api_key="a"), a_route(Right.READ))
    assert len(asked_of) == 1
    access.reconfigure(replace(config, cached_s=1.0))
    await access.admit(asked(x_api_key="a"), a_route(Right.READ))
    assert len(asked_of) == 2
    clerks.close()


def test_a_path_is_found_by_its_beginning_and_nowhere_else() -> None:
    exact, below = a_route(Right.READ), a_route(Right.INFER)
    table = Table(exact={"/models": exact}, below={"/models/": below})
    assert table.find("/models") is exact
    assert table.find("/models/a/b") is below
    for path in ("/x/models/a", "//models/a", "models/a", "/Models/a", "/modelsa", ""):
        assert table.find(path) is NOTHING


def test_a_route_takes_its_methods_and_names_them_and_nothing_takes_any() -> None:
    route = Endpoint(serve=nothing, methods=("GET", "POST"), right=None)
    route.check("GET")
    with pytest.raises(WrongMethod) as refused:
        route.check("DELETE")
    assert "GET, POST" in str(vars(refused.value))
    NOTHING.check("DELETE")
    assert NOTHING.right is Right.READ


LOCAL_HOST = {"host": "127.0.0.1:8000"}
PASSED_ON = (
    *("cf-connecting-ip", "forwarded", "origin", "true-client-ip", "via", "x-client-ip"),
    *("x-envoy-external-address", "x-forwarded", "x-forwarded-for", "x-forwarded-host"),
    *("x-forwarded-port", "x-forwarded-proto", "x-forwarded-server", "x-real-ip"),
)


@pytest.mark.parametrize("name", PASSED_ON)
async def test_any_header_of_a_proxy_says_that_a_request_was_not_made_at_this_machine(
    name: str,
) -> None:
    access, route = Access(local=True), a_route(Right.OPERATE)
    await access.admit(asked(**LOCAL_HOST), route)
    with pytest.raises(Forbidden):
        await access.admit(asked(**LOCAL_HOST, **{name: ""}), route)


@pytest.mark.parametrize(
    ("site", "ours"),
    [
        ("none", True),
        ("same-origin", True),
        ("same-site", False),
        ("cross-site", False),
        ("", False),
    ],
)
async def test_a_page_of_another_site_is_no_operator(site: str, ours: bool) -> None:
    exchange = asked(**LOCAL_HOST, sec_fetch_site=site)
    if ours:
        await Access(local=True).admit(exchange, a_route(Right.OPERATE))
    else:
        with pytest.raises(Forbidden):
            await Access(local=True).admit(exchange, a_route(Right.OPERATE))


@pytest.mark.parametrize(
    "host",
    ["", "localhost.evil.example", "localhost:1x", "127.0.0.1/", "[::1]x", "128.0.0.1", "[::2]"],
)
async def test_a_host_that_only_begins_like_this_machine_is_another(host: str) -> None:
    with pytest.raises(Forbidden):
        await Access(local=True).admit(asked(host=host), a_route(Right.OPERATE))


async def test_a_credential_of_another_scheme_is_none_though_it_ends_like_a_key() -> None:
    for given in ("Basic  ann", "Tokens ann", "       ann"):
        with pytest.raises(Unauthenticated, match="Send an API key"):
            await closed().admit(asked(authorization=given), a_route(Right.READ))
