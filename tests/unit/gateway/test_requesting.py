"""Which models and routes are a caller's to ask, by which of their names."""

import pytest

from forebay.core.caller import Caller
from forebay.core.clock import MONOTONIC
from forebay.core.errors import UnknownModel
from forebay.gateway.config import GatewayConfig
from forebay.gateway.requesting import Requests
from forebay.policy.rollout import RouteConfig
from forebay.serve.cache import CacheConfig
from forebay.serve.lanes import Lanes, Listing
from forebay.serve.routes import Routes

NAMES = ("small", "big", "gpt", "big:v2", "gpt:v2", "r", "nowhere")


def a_desk() -> Requests:
    lanes = Lanes([])
    lanes.offer(Listing(name="small"))
    lanes.offer(Listing(name="big", aliases=("gpt",), versions={"v2": "v2@1"}))
    routes = Routes({"r": RouteConfig(split="big=1")}, MONOTONIC, lambda *_, **__: None)
    return Requests(lanes, config=GatewayConfig(), cache=CacheConfig(), routes=routes)


def a_caller(*models: str) -> Caller:
    return Caller(models=frozenset(models))


@pytest.mark.parametrize(
    ("models", "asks", "lists"),
    [
        (("small",), {"small"}, ("small",)),
        (("big",), {"big", "gpt", "big:v2", "gpt:v2"}, ("big",)),
        (("gpt",), {"big", "gpt", "big:v2", "gpt:v2"}, ("big",)),
        (("big:v2",), {"big:v2"}, ("big",)),
        (("gpt:v2",), {"gpt:v2"}, ("big",)),
        (("r",), {"r"}, ()),
        ((), set(), ()),
    ],
)
def test_a_caller_asks_and_sees_its_models_by_all_their_names_and_no_others(
    models: tuple[str, ...], asks: set[str], lists: tuple[str, ...]
) -> None:
    desk, caller = a_desk(), a_caller(*models)
    assert tuple(each.name for each in desk.listings(caller)) == lists
    assert desk.routes(caller) == (("r",) if "r" in models else ())
    for name in NAMES:
        if name in asks:
            desk.check(caller, name)
        else:
            with pytest.raises(UnknownModel, match="may not ask it") as refused:
                desk.check(caller, name)
            assert refused.value.param == "model"


def test_whoever_names_no_model_gets_the_first_of_its_own() -> None:
    desk = a_desk()
    assert desk.default(Caller()) == "small"
    assert desk.default(a_caller("gpt")) == "big"
    with pytest.raises(UnknownModel):
        desk.default(a_caller("nowhere"))


def test_who_may_ask_all_models_may_ask_by_any_name_and_through_any_route() -> None:
    desk = a_desk()
    for name in NAMES:
        desk.check(Caller(), name)
    assert desk.routes(Caller()) == ("r",)
    assert len(desk.listings(Caller())) == 2
