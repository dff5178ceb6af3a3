"""Access, limits, the allowance and the guard, put together by the settings."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from forebay.core.caller import RIGHTS, Account, Caller, Level, Right, Role
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Forbidden
from forebay.entrance import Entrance
from forebay.gateway.exchange import Exchange
from forebay.gateway.routing import Endpoint
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lanes, open_lane
from forebay.serve.limits import OverRate, Probe
from forebay.serve.limits_config import LimitsConfig
from forebay.settings import Settings
from forebay.settings.sections import ServerConfig
from tests.support.engines import PuppetEngine
from tests.support.gateways import keys
from tests.support.requests import a_request

ANN = Caller(user="ann", rights=RIGHTS[Role.USER], accounts=(Account(level=Level.USER, id="ann"),))


def an_entrance(settings: Settings, *, closed: bool) -> Entrance:
    lane = open_lane("m", PuppetEngine(), config=AdmissionConfig(), created=0, now=MONOTONIC)
    credentials = keys({"ann": ANN}) if closed else None
    lanes = Lanes([lane])
    return Entrance(settings, lanes, lambda *_, **__: None, credentials=credentials, budgets=None)


def asked(**headers: str) -> Exchange:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    found = SimpleNamespace(
        caller=None, client=("10.0.0.1", 1), headers=named, http_version="1.1", standings=()
    )
    return cast("Exchange", found)


async def nothing(_: Exchange) -> None:
    """Serve nothing."""


def a_route(right: Right | None, probe: Probe | None = None) -> Endpoint:
    return Endpoint(serve=nothing, methods=("GET",), right=right, probe=probe)


@pytest.mark.parametrize("closed", [True, False])
async def test_callers_are_held_to_the_limits_that_are_set(closed: bool) -> None:
    settings = Settings(limits=LimitsConfig(requests="1/minute"))
    entrance = an_entrance(settings, closed=closed)
    await entrance.access.admit(asked(x_api_key="ann"), a_route(Right.READ))
    with pytest.raises(OverRate):
        await entrance.access.admit(asked(x_api_key="ann"), a_route(Right.READ))
    assert entrance.allowance.limits is entrance.limits
    entrance.reconfigure(replace(settings, limits=LimitsConfig(requests="2/minute")))
    (ask,) = entrance.limits.plan_of(ANN).requests
    assert ask.rate.amount == 2


async def test_only_where_accounts_are_asked_for_is_there_a_limit_that_nobody_set() -> None:
    for closed in (True, False):
        entrance = an_entrance(Settings(), closed=closed)
        assert bool(entrance.limits.plan_of(ANN).requests) is closed


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("0.0.0.0", False)])
async def test_an_operator_without_a_name_is_one_only_where_nobody_else_can_come(
    host: str, local: bool
) -> None:
    entrance = an_entrance(Settings(server=ServerConfig(host=host)), closed=False)
    exchange = asked(host="127.0.0.1")
    if local:
        await entrance.access.admit(exchange, a_route(Right.OPERATE))
    else:
        with pytest.raises(Forbidden):
            await entrance.access.admit(exchange, a_route(Right.OPERATE))


async def test_the_word_of_the_proxies_that_are_named_is_taken_on_who_asks() -> None:
    server = ServerConfig(trusted_proxies="10.0.0.0/8")
    entrance = an_entrance(Settings(server=server), closed=True)
    assert entrance.access.address(asked(x_forwarded_for="203.0.113.9")) == "203.0.113.9"
    unnamed = an_entrance(Settings(), closed=True)
    assert unnamed.access.address(asked(x_forwarded_for="203.0.113.9")) == "10.0.0.1"


def test_who_names_no_number_of_tokens_may_get_what_the_context_leaves() -> None:
    most = an_entrance(Settings(), closed=True).allowance.most
    assert most(a_request(model="m")) == 1_000
    assert most(a_request(model="nowhere")) == 0
