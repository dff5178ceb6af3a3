"""A client that leaves: in every phase the events are closed and nothing is held."""

import asyncio
import json
from collections.abc import Callable

import pytest

from forebay.core.errors import Outcome
from forebay.core.request import Delta, FinishReason, Scheduled
from forebay.gateway.config import GatewayConfig
from forebay.serve.admission import AdmissionConfig
from tests.support.asgi import Exchange
from tests.support.gateways import CHAT, Stage, a_stage, chat, hang, said


def begin(stage: Stage, *, stream: bool) -> Exchange:
    exchange = Exchange(stage.gateway, "POST", CHAT)
    return exchange.body(json.dumps(chat(stream=stream)).encode()).start()


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0)


async def ended(exchange: Exchange) -> None:
    assert exchange.task is not None
    async with asyncio.timeout(5):
        await exchange.task


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_leaving_before_the_first_token_closes_the_events(stream: bool) -> None:
    stage = a_stage([Scheduled(1), hang])
    exchange = begin(stage, stream=stream)
    await until(lambda: stage.engine.held == 1)
    exchange.leave()
    await ended(exchange)
    assert (stage.engine.held, stage.engine.closed) == (0, 1)
    assert exchange.sent == []
    assert stage.record.outcome is Outcome.CANCELLED


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_leaving_in_the_queue_gives_the_place_in_it_back(stream: bool) -> None:
    stage = a_stage([Scheduled(1), hang], admission=AdmissionConfig(running_max=1))
    first = begin(stage, stream=True)
    await until(lambda: stage.engine.held == 1)
    second = begin(stage, stream=stream)
    lane = stage.gateway.lanes.find("m")
    await until(lambda: lane.admission.load.waiting == 1)
    second.leave()
    await ended(second)
    assert lane.admission.load.waiting == 0
    assert len(stage.engine.asked) == 1
    assert stage.record.outcome is Outcome.CANCELLED
    first.leave()
    await ended(first)
    assert lane.admission.load.running == 0


async def test_leaving_in_mid_stream_closes_the_events() -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang])
    exchange = begin(stage, stream=True)
    await exchange.sent_at_least(2)
    exchange.leave()
    await ended(exchange)
    assert stage.engine.held == 0
    assert not exchange.ended
    assert stage.record.outcome is Outcome.CANCELLED


async def test_leaving_while_a_whole_answer_is_made_closes_the_events() -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang])
    exchange = begin(stage, stream=False)
    await until(lambda: stage.engine.held == 1)
    exchange.leave()
    await ended(exchange)
    assert stage.engine.held == 0
    assert stage.record.outcome is Outcome.CANCELLED


async def test_leaving_while_the_client_does_not_read_closes_the_events() -> None:
    gate = asyncio.Event()
    stage = a_stage([Scheduled(1), Delta("a"), gate.wait, Delta("b"), hang])
    exchange = begin(stage, stream=True)
    await exchange.sent_at_least(2)
    exchange.writable.clear()
    gate.set()
    await until(lambda: exchange.stuck)
    exchange.leave()
    await ended(exchange)
    assert stage.engine.held == 0
    assert stage.record.outcome is Outcome.CANCELLED


async def test_a_client_that_stops_reading_is_cut() -> None:
    gate = asyncio.Event()
    stage = a_stage(
        [Scheduled(1), Delta("a"), gate.wait, Delta("b"), hang],
        config=GatewayConfig(send_s_max=0.02),
    )
    exchange = begin(stage, stream=True)
    await exchange.sent_at_least(2)
    exchange.writable.clear()
    gate.set()
    await ended(exchange)
    assert exchange.stuck
    assert stage.engine.held == 0
    assert not exchange.ended
    assert stage.record.outcome is Outcome.CANCELLED


async def test_a_client_that_reads_is_not_cut_however_long_the_engine_takes() -> None:
    async def pause() -> None:
        await asyncio.sleep(0.05)

    stage = a_stage(
        [Scheduled(1), Delta("x"), pause, Delta("y", 1, 0, FinishReason.STOP), *said("z")[2:]],
        config=GatewayConfig(send_s_max=0.01),
    )
    exchange = begin(stage, stream=True)
    await ended(exchange)
    assert exchange.ended
    assert stage.record.outcome is Outcome.OK


async def test_leaving_before_the_body_is_complete_is_recorded_once() -> None:
    stage = a_stage()
    exchange = Exchange(stage.gateway, "POST", CHAT).body(b'{"mod', more=True)
    exchange.leave()
    await exchange.run()
    assert exchange.sent == []
    assert stage.record.outcome is Outcome.CANCELLED
    assert stage.record.status == 499


async def test_a_server_that_ends_the_task_is_not_held_up() -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang])
    exchange = begin(stage, stream=True)
    await exchange.sent_at_least(2)
    assert exchange.task is not None
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert stage.engine.held == 0
    assert stage.record.outcome is Outcome.CANCELLED


async def test_a_body_that_a_stopping_server_does_not_wait_for_is_told_so_and_recorded() -> None:
    stage = a_stage()
    exchange = Exchange(stage.gateway, "POST", CHAT).body(b'{"mod', more=True).start()
    assert exchange.task is not None
    await until(lambda: not exchange.waiting)
    exchange.task.cancel()
    await ended(exchange)
    assert exchange.status == 503
    assert exchange.json["error"]["code"] == "draining"
    assert stage.record.outcome is Outcome.DRAINING


async def test_a_broken_pipe_is_a_client_that_left() -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang])
    exchange = Exchange(stage.gateway, "POST", CHAT).body(json.dumps(chat(stream=True)).encode())

    async def broken(_: object) -> None:
        raise BrokenPipeError

    await stage.gateway(exchange.scope, exchange.receive, broken)
    assert stage.engine.held == 0
    assert stage.record.outcome is Outcome.CANCELLED
    assert stage.events == []


async def test_after_an_answer_nothing_of_it_is_left_running() -> None:
    stage = a_stage()
    await stage.chat()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_more_from_the_client_while_it_is_served_is_no_disconnect() -> None:
    gate = asyncio.Event()
    stage = a_stage([Scheduled(1), gate.wait, *said("a")[1:]])
    exchange = begin(stage, stream=False)
    await until(lambda: stage.engine.held == 1)
    exchange.body(b"")
    await asyncio.sleep(0)
    gate.set()
    await ended(exchange)
    assert exchange.status == 200


async def test_a_client_that_leaves_before_it_is_told_of_an_error_is_no_defect() -> None:
    stage = a_stage()
    exchange = Exchange(stage.gateway, "POST", CHAT).body(b"{}")

    async def broken(_: object) -> None:
        raise BrokenPipeError

    await stage.gateway(exchange.scope, exchange.receive, broken)
    assert stage.record.outcome is Outcome.INVALID
    assert stage.events == []
