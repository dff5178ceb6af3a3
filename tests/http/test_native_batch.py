"""Many prompts in one call: each a request of its own, one answer for all."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from forebay.core.clock import ManualClock
from forebay.core.errors import EngineError, Outcome
from forebay.core.request import Chat, Delta, Events, Priority, Request, Route, Scheduled
from forebay.gateway.config import GatewayConfig
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lifecycle import State
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, Stage, a_stage, chat, hang, said

BATCH = "/generate_batch"
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


async def post(stage: Stage, prompts: Any, headers: Any = None, **fields: Any) -> Exchange:
    body = {"prompts": prompts} | fields
    return await ask(stage.gateway, "POST", BATCH, body, **(headers or {}))


def begin(stage: Stage, prompts: list[str], **headers: str) -> Exchange:
    body = json.dumps({"prompts": prompts}).encode()
    return Exchange(stage.gateway, "POST", BATCH, **headers).body(body).start()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0)


async def ended(exchange: Exchange) -> None:
    assert exchange.task is not None
    async with asyncio.timeout(5):
        await exchange.task


def asked(request: Request) -> str:
    assert isinstance(request.prompt, Chat)
    return request.prompt.messages[0].content


def outcomes(stage: Stage) -> dict[str, int]:
    balance = stage.ledger.balance()
    assert balance.imbalance == 0
    assert balance.in_flight == 0
    return {outcome.value: count for outcome, count in balance.outcomes.items() if count}


def answering(stage: Stage, answer: Callable[[str], Any]) -> None:
    """Let the stage's engine answer each prompt in its own way."""
    play = stage.engine.generate

    async def generate(request: Request) -> Events:
        stage.engine.acts = answer(asked(request))
        async for event in play(request):
            yield event

    stage.engine.generate = generate  # type: ignore[method-assign]


async def test_there_is_one_entry_per_prompt_in_their_order() -> None:
    stage = a_stage()
    gates = {name: asyncio.Event() for name in "abc"}
    answering(stage, lambda text: [gates[text].wait, *said(text.upper(), "!")])
    exchange = begin(stage, ["a", "b", "c"], x_request_id="batch-7")
    for name in "cab":
        await until(lambda name=name: name in map(asked, stage.engine.asked))  # type: ignore[misc]
        gates[name].set()
        await asyncio.sleep(0)
    await ended(exchange)
    results = exchange.json["results"]
    assert [(r["index"], r["text"], r["finish_reason"]) for r in results] == [
        (0, "A!", "stop"),
        (1, "B!", "stop"),
        (2, "C!", "stop"),
    ]
    assert [r["metrics"]["tokens_generated"] for r in results] == [2, 2, 2]
    assert [r["id"] for r in results] == [f"gen-batch-7-{index}" for index in range(3)]
    assert exchange.json["id"] == "gen-batch-7"


async def test_each_prompt_is_a_request_with_a_record_of_its_own() -> None:
    stage = a_stage()
    await post(stage, ["a", "b", "c"], {"x_request_id": "r"})
    assert sorted(record.id for record in stage.records) == ["r-0", "r-1", "r-2"]
    assert {record.route for record in stage.records} == {Route.GENERATE_BATCH}
    assert outcomes(stage) == {"ok": 3}
    assert stage.ledger.balance().received == 3


async def test_the_whole_is_measured_too() -> None:
    metrics = (await post(a_stage(), ["a", "", "c"])).json["metrics"]
    assert (metrics["succeeded"], metrics["failed"], metrics["tokens_generated"]) == (2, 1, 4)
    assert metrics["total_time"] > 0
    assert metrics["tokens_per_second"] > 0


async def test_a_bad_item_fails_alone() -> None:
    stage = a_stage(config=GatewayConfig(prompt_bytes_max=5))
    answering(
        stage,
        lambda text: [EngineError("It broke.")] if text == "break" else said(text),
    )
    answer = await post(stage, ["a", "", 7, "longer", None, ["b"], "break", "z"])
    assert answer.status == 200
    results = answer.json["results"]
    found = [r.get("text") or (r["error"]["status"], r["error"].get("param")) for r in results]
    assert found == [
        "a",
        (400, "prompts[1]"),
        (400, "prompts[2]"),
        (400, "prompts[3]"),
        (400, "prompts[4]"),
        (400, "prompts[5]"),
        (500, None),
        "z",
    ]
    assert [r["index"] for r in results] == list(range(8))
    assert results[6]["error"]["detail"] == "It broke."
    assert outcomes(stage) == {"ok": 2, "invalid": 5, "engine_error": 1}


async def test_an_overload_in_an_item_says_when_to_come_back() -> None:
    stage = a_stage([Scheduled(1), hang], admission=AdmissionConfig(running_max=1, waiting_max=0))
    busy = Exchange(stage.gateway, "POST", CHAT).body(json.dumps(chat()).encode()).start()
    await until(lambda: stage.engine.held == 1)
    answer = await post(stage, ["a"])
    error = answer.json["results"][0]["error"]
    assert (error["status"], error["code"]) == (503, "overloaded")
    assert error["retry_after_ms"] > 0
    busy.leave()
    await ended(busy)
    assert outcomes(stage) == {"overloaded": 1, "cancelled": 1}


async def test_a_list_of_prompts_may_go_to_generate() -> None:
    stage = a_stage()
    answer = await ask(stage.gateway, "POST", "/generate", {"prompts": ["a", "b"]})
    assert [r["text"] for r in answer.json["results"]] == ["Hello world", "Hello world"]
    assert {record.route for record in stage.records} == {Route.GENERATE_BATCH}
    assert outcomes(stage) == {"ok": 2}


async def test_prompt_and_prompts_together_are_refused() -> None:
    stage = a_stage()
    answer = await ask(stage.gateway, "POST", "/generate", {"prompts": ["a"], "prompt": "b"})
    assert (answer.status, answer.json["param"]) == (400, "prompts")
    assert outcomes(stage) == {"invalid": 1}


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({"prompts": []}, 400, "prompts", "empty"),
        ({}, 400, "prompts", "missing"),
        ({"prompts": "hello"}, 400, "prompts", "expected an array, found a string"),
        ({"prompts": ["a"] * 10_000}, 413, "prompts", "10000 prompts, at most 1024"),
        ({"prompts": ["a"], "prompt": "b"}, 400, "prompt", "no such parameter"),
        ({"prompts": ["a"], "max_tokens": 5_000}, 400, "max_tokens", "context"),
        ({"prompts": ["a"], "model": "other"}, 404, "model", "Served: m"),
    ],
)
async def test_a_bad_batch_fails_as_one(
    body: dict[str, Any], status: int, param: str, words: str
) -> None:
    stage = a_stage()
    answer = await ask(stage.gateway, "POST", BATCH, body)
    assert answer.status == status
    assert answer.json["param"] == param
    assert words in answer.json["detail"]
    assert stage.record.route is Route.GENERATE_BATCH
    assert stage.ledger.balance().received == 1
    assert len(outcomes(stage)) == 1


async def test_the_most_prompts_are_the_operators_to_set() -> None:
    stage = a_stage(config=GatewayConfig(batch_prompts_max=2))
    assert (await post(stage, ["a", "b"])).status == 200
    assert (await post(stage, ["a", "b", "c"])).status == 413


@pytest.mark.parametrize(("knob", "running"), [(3, 3), (32, 4)], ids=["the knob", "the engine"])
async def test_no_more_run_or_wait_at_once_than_the_lower_of(knob: int, running: int) -> None:
    gate = asyncio.Event()
    stage = a_stage([gate.wait, *said("a")], config=GatewayConfig(batch_running_max=knob))
    exchange = begin(stage, ["x"] * 10)
    for _ in range(100):
        await asyncio.sleep(0)
    assert stage.engine.held == running
    assert stage.gateway.lanes.find("m").admission.load.waiting == 0
    assert stage.ledger.balance().in_flight == 10
    gate.set()
    await ended(exchange)
    assert outcomes(stage) == {"ok": 10}


async def test_others_go_between_a_batchs_items() -> None:
    gate = asyncio.Event()
    stage = a_stage([gate.wait, *said("a")], admission=AdmissionConfig(running_max=1))
    batch = begin(stage, ["x"] * 6)
    await until(lambda: stage.engine.held == 1)
    other = Exchange(stage.gateway, "POST", CHAT).body(json.dumps(chat("other")).encode()).start()
    lane = stage.gateway.lanes.find("m")
    await until(lambda: lane.admission.load.waiting == 4)
    gate.set()
    await ended(batch)
    await ended(other)
    assert [asked(request) for request in stage.engine.asked].index("other") == 1


@pytest.mark.parametrize(
    ("headers", "priority"),
    [({}, Priority.BATCH), ({"x_priority": "interactive"}, Priority.INTERACTIVE)],
)
async def test_a_batch_lets_others_go_first_unless_it_says_otherwise(
    headers: dict[str, str], priority: Priority
) -> None:
    stage = a_stage()
    await post(stage, ["a"], headers)
    assert stage.engine.asked[0].priority is priority


async def test_leaving_cancels_all_that_run_wait_or_have_not_begun() -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang], admission=AdmissionConfig(running_max=2))
    exchange = begin(stage, ["x"] * 9, x_request_id="r")
    lane = stage.gateway.lanes.find("m")
    await until(lambda: stage.engine.held == 2 and lane.admission.load.waiting == 2)
    exchange.leave()
    await ended(exchange)
    assert stage.engine.held == 0
    assert (lane.admission.load.running, lane.admission.load.waiting) == (0, 0)
    assert exchange.sent == []
    assert sorted(record.id for record in stage.records) == [f"r-{index}" for index in range(9)]
    assert outcomes(stage) == {"cancelled": 9}


async def test_a_defect_ends_the_batch_and_every_item_has_its_record() -> None:
    stage = a_stage([ValueError("a defect")])
    answer = await post(stage, ["x"] * 6)
    assert answer.status == 500
    assert answer.json["code"] == "internal_error"
    found = outcomes(stage)
    assert found["internal_error"] >= 1
    assert sum(found.values()) == 6


async def test_while_the_server_drains_each_item_says_so() -> None:
    stage = a_stage(state=State.DRAINING)
    results = (await post(stage, ["a", "b"])).json["results"]
    assert [r["error"]["code"] for r in results] == ["draining", "draining"]
    assert outcomes(stage) == {"draining": 2}


async def test_the_deadline_is_the_batchs() -> None:
    stage = a_stage()
    await post(stage, ["a", "b"], {"x_request_timeout": "9"})
    first, second = stage.engine.asked
    assert first.deadline == second.deadline
    assert first.deadline - first.received <= 9


async def test_an_items_time_begins_when_it_goes_to_the_door() -> None:
    clock = ManualClock(100.0)

    async def passes() -> None:
        clock.advance(0.5)

    stage = a_stage([passes, *said("a")], config=GatewayConfig(batch_running_max=1), now=clock)
    metrics = (await post(stage, ["a", "b"])).json["metrics"]
    assert [record.timeline.received for record in stage.records] == [100.0, 100.5]
    assert [record.e2e_s for record in stage.records] == [0.5, 0.5]
    assert metrics["total_time"] == 1.0


async def test_a_key_stands_for_the_whole_batch() -> None:
    stage = a_stage()
    headers = {"idempotency_key": KEY}
    first = await post(stage, ["a", "b"], headers)
    again = await post(stage, ["a", "b"], headers)
    assert len(stage.engine.asked) == 2
    assert [r["text"] for r in again.json["results"]] == ["Hello world", "Hello world"]
    assert [r["id"] for r in again.json["results"]] == [r["id"] for r in first.json["results"]]
    other = await post(stage, ["a", "c"], headers)
    errors = [r["error"] for r in other.json["results"]]
    assert [(e["status"], e["code"]) for e in errors] == [(422, "idempotency_conflict")] * 2
    assert len(stage.engine.asked) == 2
    assert outcomes(stage) == {"ok": 4, "conflict": 2}


async def test_the_items_of_a_keyed_batch_are_made_apart() -> None:
    stage = a_stage()
    await post(stage, ["a", "a"], {"idempotency_key": KEY})
    assert len(stage.engine.asked) == 2


async def test_a_promise_to_one_is_none_to_a_batch() -> None:
    stage = a_stage()
    answer = await post(stage, ["a"], {"x_forebay_ticket": "1-00"})
    assert answer.headers["x-forebay-warning"] == "x-forebay-ticket"
    assert stage.engine.asked[0].ticket is None


async def test_going_on_with_a_batch_is_refused() -> None:
    stage = a_stage()
    answer = await post(stage, ["a"], {"last_event_id": "3", "idempotency_key": KEY})
    assert (answer.status, answer.json["param"]) == (400, "Last-Event-ID")
    assert stage.record.outcome is Outcome.INVALID


async def test_repeated_greedy_prompts_share_one_generation() -> None:
    stage = a_stage()
    results = (await post(stage, ["a", "a", "b"], do_sample=False)).json["results"]
    assert [r["text"] for r in results] == ["Hello world"] * 3
    assert len(stage.engine.asked) == 2
