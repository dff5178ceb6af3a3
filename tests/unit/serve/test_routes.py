"""Routes: who is led where, and what they learn."""

from collections import Counter

import pytest

from forebay.core.caller import ANONYMOUS
from forebay.core.clock import ManualClock
from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import RequestId, Source
from forebay.core.request import Route as Path
from forebay.policy.rollout import RouteConfig
from forebay.serve.routes import Route, Routes
from tests.support.records import a_completed


def a_route(**config: object) -> Route:
    facts = {"split": "old=100"} | config
    return Route("chat", RouteConfig(**facts), 0.0)  # type: ignore[arg-type]


def a_record(model: str, outcome: Outcome = Outcome.OK) -> RequestRecord:
    timeline = Timeline(received=0.0, first_token=0.1, ended=1.0)
    return RequestRecord(
        id=RequestId("r"),
        route=Path.CHAT_COMPLETIONS,
        model=model,
        outcome=outcome,
        status=200,
        timeline=timeline,
        via="chat",
    )


def test_a_tenant_always_comes_to_the_same_model() -> None:
    route = a_route(split="a=50, b=50")
    assert len({route.choose("acme", None, f"r{number}") for number in range(20)}) == 1


def test_requests_of_nobody_in_particular_are_spread() -> None:
    route = a_route(split="a=50, b=50")
    found = Counter(route.choose(ANONYMOUS, None, f"r{number}") for number in range(400))
    assert 150 < found["a"] < 250


@pytest.mark.parametrize("tenant", [ANONYMOUS, "acme"])
def test_a_request_that_is_sent_again_comes_to_the_same_model(tenant: str) -> None:
    route = a_route(split="a=50, b=50", sticky="key")
    assert len({route.choose(tenant, "key-1", f"r{number}") for number in range(20)}) == 1


def test_by_key_one_tenants_requests_are_spread() -> None:
    route = a_route(split="a=50, b=50", sticky="key")
    found = Counter(route.choose("acme", f"key-{number}", "r") for number in range(400))
    assert 150 < found["a"] < 250


def test_where_tenants_stay_together_a_key_changes_nothing_but_for_nobody_in_particular() -> None:
    route = a_route(split="a=50, b=50")
    assert len({route.choose("acme", f"key-{number}", "r") for number in range(20)}) == 1
    found = {route.choose(ANONYMOUS, "key-1", f"r{number}") for number in range(20)}
    assert len(found) == 1


def test_callers_of_a_candidate_that_is_withdrawn_are_spread_over_the_split() -> None:
    route = a_route(split="a=50, b=50", candidate="new", steps="100")
    found = Counter(
        route.choose(f"tenant-{number}", None, "r", offered={"a", "b"}.__contains__)
        for number in range(400)
    )
    assert 150 < found["a"] < 250
    assert found["a"] + found["b"] == 400


def test_a_candidate_gets_its_share_and_none_after_it_failed() -> None:
    log: list[tuple[str, dict[str, object]]] = []
    configs = {"chat": RouteConfig(split="old=100", candidate="new", steps="30, 100")}
    routes = Routes(
        configs, ManualClock(), lambda event, /, **facts: log.append((event, dict(facts)))
    )
    route = routes.get("chat")
    assert route is not None
    assert route.reading().shares == pytest.approx({"old": 0.7, "new": 0.3})
    for _ in range(10):
        routes(a_record("old"))
        routes(a_record("new", Outcome.ENGINE_ERROR))
    assert route.reading().shares == {"old": 1.0, "new": 0.0}
    ((event, facts),) = log
    assert (event, facts["candidate"], facts["level"]) == ("route.rolled_back", "new", "warning")
    assert "10 of 10 answers failed" in str(facts["reason"])


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.CANCELLED, Outcome.RATE_LIMITED])
def test_what_callers_did_is_not_held_against_a_candidate(outcome: Outcome) -> None:
    route = a_route(candidate="new")
    assert not any(route.saw(a_record("new", outcome), 0.0) for _ in range(50))


def test_what_callers_did_brings_a_candidate_no_further() -> None:
    route = a_route(candidate="new", step_requests_min=10, step_s_min=0.0)
    assert not any(route.saw(a_record("new", Outcome.CANCELLED), 1.0) for _ in range(50))
    assert any(route.saw(a_record("new"), 1.0) for _ in range(10))


def at_pace(model: str, *, first_s: float = 0.3, token_s: float = 0.02) -> RequestRecord:
    record = a_completed(model=model)
    record.timeline.first_token = record.timeline.received + first_s
    record.timeline.last_token = record.timeline.first_token + 2 * token_s
    return record


@pytest.mark.parametrize(
    ("pace", "words"),
    [({"first_s": 0.6}, "time to first token"), ({"token_s": 0.04}, "time per token")],
    ids=["first token", "tokens"],
)
def test_a_candidates_times_are_read_off_its_records(pace: dict[str, float], words: str) -> None:
    route = a_route(candidate="new", step_requests_min=20)
    for _ in range(20):
        route.saw(at_pace("old"), 1.0)
        route.saw(at_pace("new", **pace), 1.0)
    assert route.reading().stage == "rolled_back"
    assert words in route.reading().reason


def test_answers_that_were_not_made_for_the_request_prove_nothing() -> None:
    route, record = a_route(candidate="new"), a_record("new", Outcome.ENGINE_ERROR)
    record.timeline.source = Source.CACHED
    assert not any(route.saw(record, 0.0) for _ in range(50))


def test_an_operator_can_begin_a_rollout_again() -> None:
    route = a_route(candidate="new", steps="30, 100")
    for _ in range(10):
        route.saw(a_record("new", Outcome.ENGINE_ERROR), 0.0)
    route.restart(1.0)
    again = route.reading()
    assert (again.shares["new"], again.stage, again.reason) == (0.3, "ramping", "")
