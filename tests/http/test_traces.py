"""What a caller's trace context does at the gateway: it is passed on, and never in the way."""

import re
from typing import Any

import pytest

from forebay.telemetry.trace_context import Contexts
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, Stage, a_stage, chat

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"


async def asked(stage: Stage, **headers: str) -> Exchange:
    return await ask(stage.gateway, "POST", CHAT, chat(), **headers)


def trace_of(stage: Stage) -> Any:
    visit = stage.record.visit
    assert visit is not None
    return visit.trace


async def test_a_trace_that_is_given_is_known_to_whoever_reads_the_record() -> None:
    stage = a_stage()
    await asked(stage, traceparent=GIVEN)
    assert (trace_of(stage).trace_id, trace_of(stage).parent_id) == (TRACE, PARENT)
    assert trace_of(stage).span_id == ""


async def test_without_a_trace_none_is_begun() -> None:
    stage = a_stage()
    await asked(stage)
    assert trace_of(stage) is None


@pytest.mark.parametrize(
    "given", ["", "00", GIVEN[:-1], GIVEN + "-x", "0" * 8_000, f"{GIVEN}, {GIVEN}", "\x00"]
)
async def test_a_trace_that_cannot_be_read_is_nobodys_error(given: str) -> None:
    stage = a_stage()
    answer = await asked(stage, traceparent=given, tracestate="=,=" * 900)
    assert answer.status == 200
    assert trace_of(stage) is None
    stage = a_stage()
    stage.gateway.contexts = Contexts(spans=True)
    answer = await asked(stage, traceparent=given, tracestate="=,=" * 900)
    assert answer.status == 200
    assert re.fullmatch("[0-9a-f]{32}", trace_of(stage).trace_id)


async def test_two_traces_at_once_are_none() -> None:
    stage = a_stage()
    exchange = Exchange(stage.gateway, "POST", CHAT, traceparent=GIVEN)
    other = GIVEN.replace("4b", "5b").encode()
    exchange.scope["headers"].append((b"traceparent", other))
    await exchange.body(b'{"model":"m","messages":[{"role":"user","content":"x"}]}').run()
    assert exchange.status == 200
    assert trace_of(stage) is None


async def test_each_exchange_has_a_span_of_its_own_in_the_callers_trace() -> None:
    spans = []
    for _ in range(2):
        stage = a_stage()
        stage.gateway.contexts = Contexts(spans=True, trusts=True)
        await asked(stage, traceparent=GIVEN, tracestate="congo=1")
        trace = trace_of(stage)
        assert (trace.trace_id, trace.parent_id, trace.state) == (TRACE, PARENT, "congo=1")
        spans.append(trace.span_id)
        (request,) = stage.engine.asked
        assert request.visit is not None
        assert request.visit.trace is trace, "engines behind us are told the same"
    assert spans[0] != spans[1]


async def test_a_request_that_is_turned_away_is_in_its_callers_trace_too() -> None:
    stage = a_stage()
    answer = await ask(stage.gateway, "POST", CHAT, b"{", traceparent=GIVEN)
    assert answer.status == 400
    assert trace_of(stage).trace_id == TRACE


async def test_no_answer_says_which_trace_it_is_of() -> None:
    answer = await asked(a_stage(), traceparent=GIVEN)
    assert not [name for name in answer.headers if name.startswith("trace")]
