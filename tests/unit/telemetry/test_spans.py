import json
from dataclasses import replace
from typing import Any

import pytest

from forebay.core.errors import OUTCOMES, Outcome
from forebay.core.record import RequestRecord, Said, Timeline
from forebay.core.request import (
    Admitted,
    Chat,
    EngineTiming,
    Finished,
    FinishReason,
    Message,
    RequestId,
    Role,
    Route,
    Source,
    Usage,
)
from forebay.core.visit import TraceContext, Visit, part
from forebay.telemetry import conventions as names
from forebay.telemetry.sampling import Kept
from forebay.telemetry.span_attributes import Told
from forebay.telemetry.spans import Anchor, Span, spans_of
from tests.support.records import a_completed, a_refused
from tests.support.requests import a_request

TRACE, PARENT, OWN = "ab" * 16, "cd" * 8, "ef" * 8
NOON_NS = 1_800_000_000_000_000_000
ANCHOR = Anchor(monotonic_s=1.0, wall_ns=NOON_NS)
"""A record's second 1 is noon."""


def a_visit(route: Route = Route.CHAT_COMPLETIONS, **fields: Any) -> Visit:
    stations: dict[str, Any] = {"let_in": 1.001, "understood": 1.01, "screened": 1.02}
    facts: dict[str, Any] = {"id": "req-1", "method": "POST", "path": "/v1/chat/completions"}
    trace = TraceContext(trace_id=TRACE, parent_id=PARENT, state="congo=1", span_id=OWN)
    facts |= {"received": 1.0, "ended": 1.5, "route": route.value, "status": 200, "trace": trace}
    return Visit(**facts | stations | fields)


def spans(record: RequestRecord, visit: Visit | None = None, **told: Any) -> list[Span]:
    visit = visit or a_visit()
    record = replace(record, visit=visit)
    return spans_of(visit, [record], kept=Kept.SHARE, anchor=ANCHOR, told=Told(**told))


def stages(found: list[Span]) -> dict[str, tuple[float, float]]:
    """Milliseconds since noon, by name."""
    return {
        span.name: ((span.begin_ns - NOON_NS) / 1e6, (span.end_ns - NOON_NS) / 1e6)
        for span in found[1:]
    }


def test_a_stream_becomes_a_tree_whose_times_are_those_of_its_record() -> None:
    found = spans(a_completed())
    root = found[0]
    assert (root.name, root.serves) == ("chat m", True)
    assert (root.begin_ns, root.end_ns) == (NOON_NS, NOON_NS + 500_000_000)
    assert stages(found) == {
        "receive": (0.0, 10.0),
        "queue": (10.0, 100.0),
        "prefill": (100.0, 300.0),
        "decode": (300.0, 340.0),
    }
    assert [event.at_ns for event in root.events] == [NOON_NS + 300_000_000]


def test_every_span_has_its_place_in_the_callers_trace() -> None:
    root, *others = spans(a_completed())
    assert (root.trace_id, root.span_id, root.parent_id, root.state) == (
        *(TRACE, OWN, PARENT),
        "congo=1",
    )
    assert {span.trace_id for span in others} == {TRACE}
    assert {span.parent_id for span in others} == {OWN}
    assert len({span.span_id for span in (root, *others)}) == 5
    assert not any(span.serves for span in others)


def test_two_exchanges_of_one_trace_share_no_span() -> None:
    another = replace(a_visit().trace or TraceContext(trace_id=TRACE), span_id="2" * 16)
    found = [*spans(a_completed()), *spans(a_completed(), a_visit(trace=another))]
    assert len({span.span_id for span in found}) == len(found)


def test_a_whole_answer_is_divided_by_the_engines_own_measure() -> None:
    found = stages(spans(a_completed(stream=False)))
    assert found["prefill"] == pytest.approx((100.0, 290.0))
    assert found["decode"] == pytest.approx((290.0, 330.0))


def test_the_guard_and_the_loading_of_a_model_are_spans_where_they_happened() -> None:
    visit = a_visit(guard="flagged override", asleep=1.02, awake=1.08)
    found = stages(spans(a_completed(), visit))
    assert found["guard"] == (10.0, 20.0)
    assert found["load"] == (20.0, 80.0)
    assert found["queue"] == (80.0, 100.0)


def test_a_model_that_was_waited_for_before_the_body_was_understood_is_no_part_of_receiving() -> (
    None
):
    visit = a_visit(asleep=1.002, awake=1.008)
    names_of = [span.name for span in spans(a_completed(), visit)[1:]]
    assert names_of == ["receive", "load", "receive", "queue", "prefill", "decode"]


def test_a_request_that_got_no_place_has_waited_until_its_end_and_nothing_more() -> None:
    timeline = Timeline(received=1.0, ended=1.5)
    record = replace(
        a_completed(), outcome=Outcome.EXPIRED, status=503, timeline=timeline, usage=None
    )
    found = spans(record, a_visit(status=503))
    assert stages(found) == {"receive": (0.0, 10.0), "queue": (10.0, 500.0)}
    assert found[0].error == found[-1].error == OUTCOMES[Outcome.EXPIRED].meaning
    assert found[1].error == ""
    assert found[0].attributes[names.ERROR_TYPE] == "queue_timeout"


def test_a_request_that_broke_while_it_decoded_failed_there() -> None:
    record = replace(a_completed(), outcome=Outcome.ENGINE_ERROR, status=500, usage=None)
    found = spans(record, a_visit(status=200))
    assert found[-1].name == "decode"
    assert found[-1].end_ns == NOON_NS + 500_000_000
    assert found[-1].error
    assert [span.error for span in found[1:-1]] == ["", "", ""]


def test_what_the_caller_did_wrong_is_told_and_is_no_failure_of_this_server() -> None:
    visit = a_visit(Route.UNMATCHED, status=404, let_in=None, understood=None, screened=None)
    (root,) = spans(a_refused(Outcome.INVALID), visit)
    assert root.error == ""
    assert root.attributes[names.ERROR_TYPE] == "invalid_request"
    assert root.attributes[names.HTTP_STATUS] == 404


def test_an_answer_that_was_made_before_has_no_prefill_and_no_decode() -> None:
    cached = a_completed(source=Source.CACHED)
    cached.timeline.admitted = cached.timeline.scheduled = None
    found = spans(cached)
    assert list(stages(found)) == ["receive"]
    assert found[0].attributes[names.ANSWER_SOURCE] == "cached"


def test_a_vector_is_made_by_prefill_alone() -> None:
    timeline = Timeline(received=1.0)
    timeline.saw(Admitted(), 1.1)
    timeline.saw(Finished(Usage(5, 0), EngineTiming(first_token_s=0.2)), 1.4)
    timeline.ended = 1.5
    record = replace(a_completed(), route=Route.EMBEDDINGS, timeline=timeline, usage=Usage(5, 0))
    found = spans(record, a_visit(Route.EMBEDDINGS))
    assert found[0].name == "embeddings m"
    assert stages(found)["prefill"] == pytest.approx((100.0, 300.0))
    assert "decode" not in stages(found)


def test_the_requests_of_a_batch_are_spans_of_their_own_below_their_exchange() -> None:
    visit = a_visit(Route.GENERATE_BATCH, items=2)
    records = [
        replace(
            a_completed(),
            id=RequestId(f"req-1-{n}"),
            route=Route.GENERATE_BATCH,
            visit=part(visit, f"req-1-{n}", 1.0),
        )
        for n in range(2)
    ]
    found = spans_of(visit, records, kept=Kept.SLOW, anchor=ANCHOR, told=Told())
    roots = [span for span in found if span.serves]
    below = [span for span in found if span.parent_id == OWN]
    assert [span.span_id for span in roots] == [OWN]
    assert roots[0].attributes[names.REQUESTS] == 2
    assert roots[0].attributes[names.KEPT] == "slow"
    assert [span.attributes[names.REQUEST_ID] for span in below] == ["req-1-0", "req-1-1"]
    for span in below:
        own = [each.name for each in found if each.parent_id == span.span_id]
        assert own == ["queue", "prefill", "decode"]
    assert len({span.span_id for span in found}) == len(found)


def test_the_facts_of_a_request_stand_in_its_span() -> None:
    record = a_completed()
    record.timeline.finish_reasons = (FinishReason.LENGTH,)
    visit = a_visit(body_bytes=120, answer_bytes=400, workers=(0, 2), failovers=("exited",))
    visit.cost_nanos = 1_500_000
    told = spans(record, visit, address="llm.example", port=8000, secure=True)[0].attributes
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "forebay",
        "gen_ai.system": "forebay",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "http.request.body.size": 120,
        "http.response.body.size": 400,
        "url.path": "/v1/chat/completions",
        "url.scheme": "https",
        "server.address": "llm.example",
        "server.port": 8000,
        "forebay.request.id": "req-1",
        "forebay.outcome": "ok",
        "forebay.answer.source": "engine",
        "forebay.workers": [0, 2],
        "forebay.retries": 1,
        "forebay.retry.reasons": ["exited"],
        "forebay.cost": 0.0015,
        "forebay.kept": "share",
    }
    assert {name: told.get(name) for name in expected} == expected
    assert told["forebay.queue_s"] == pytest.approx(record.queue_s)
    assert told["forebay.ttft_s"] == pytest.approx(record.ttft_s)
    assert told["forebay.tpot_s"] == pytest.approx(record.tpot_s)
    assert "error.type" not in told


def test_whoever_opts_in_to_the_newest_names_gets_no_older_ones() -> None:
    assert names.SYSTEM not in spans(a_completed(), older_names=False)[0].attributes


def test_tenants_are_not_told_apart_unless_that_is_asked_for_and_never_named() -> None:
    request = replace(a_request(), tenant="acme-corp")
    record = replace(a_completed(), request=request)
    assert names.TENANT_HASH not in spans(record)[0].attributes
    hashed = spans(record, tenants=True)[0].attributes
    assert len(str(hashed[names.TENANT_HASH])) == 16
    assert "acme" not in str(hashed)


def test_nothing_that_was_said_is_told_unless_that_is_asked_for() -> None:
    record = a_completed()
    record.timeline.said = Said(1_000)
    record.timeline.said.add(0, "an answer")
    assert "hello there" not in str(spans(record))
    assert "an answer" not in str(spans(record))
    told = spans(record, content_characters=1_000)[0].attributes
    assert "hello there" in str(told[names.INPUT_MESSAGES])
    assert "an answer" in str(told[names.OUTPUT_MESSAGES])


def test_what_is_told_of_prompts_is_bounded() -> None:
    told = spans(a_completed(), content_characters=5)[0].attributes
    assert '"hello"' in str(told[names.INPUT_MESSAGES])


def test_the_newest_messages_are_told_in_the_order_in_which_they_were_said() -> None:
    said = [(Role.USER, "oldest"), (Role.ASSISTANT, "second"), (Role.USER, "third")]
    chat = Chat(messages=tuple(Message(role=role, content=text) for role, text in said))
    record = replace(a_completed(), request=replace(a_request(), prompt=chat))
    told = json.loads(str(spans(record, content_characters=11)[0].attributes[names.INPUT_MESSAGES]))
    assert [each["parts"][0]["content"] for each in told] == ["second", "third"]


def test_an_answers_text_is_kept_up_to_a_bound() -> None:
    said = Said(6)
    for choice, piece in ((0, "four"), (1, "x"), (0, "more")):
        said.add(choice, piece)
    assert said.by_choice() == ["fourm", "x"]


def test_a_model_that_is_not_served_stands_in_no_name_and_is_cut() -> None:
    record = a_refused(Outcome.UNKNOWN_MODEL, model="x" * 9_000)
    root = spans(record, a_visit())[0]
    assert root.name == "text_completion"
    assert len(str(root.attributes[names.REQUEST_MODEL])) == 256


def test_a_text_that_utf8_cannot_say_does_not_cost_the_span() -> None:
    root = spans(a_refused(Outcome.UNKNOWN_MODEL, model="\ud800"), a_visit(path="/\udcff"))[0]
    for value in root.attributes.values():
        str(value).encode()


def test_moments_keep_their_distance_when_the_clock_is_set() -> None:
    assert ANCHOR.ns(1.25) == NOON_NS + 250_000_000
    assert ANCHOR.held_to(2.0, NOON_NS + 1_000_000_123) is ANCHOR
    moved = ANCHOR.held_to(2.0, NOON_NS + 3_600_000_000_000)
    assert moved.ns(2.0) == NOON_NS + 3_600_000_000_000
