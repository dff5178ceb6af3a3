"""Receipts: what the parts are, and that they sum to the whole, whatever became of a request."""

import itertools
import random
from dataclasses import replace

import msgspec
import pytest

from forebay.core.caller import Caller
from forebay.core.errors import OUTCOMES, Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import (
    Admitted,
    Begun,
    Delta,
    EngineTiming,
    Finished,
    Request,
    RequestId,
    Reuse,
    Route,
    Sampling,
    Scheduled,
    Source,
    Usage,
)
from forebay.core.visit import Visit, part
from forebay.telemetry.receipt import (
    TEXT_CHARACTERS_MAX,
    Receipt,
    facts_of_batch,
    read,
    receipt_of,
)
from forebay.telemetry.stations import Part
from tests.support.requests import a_request

USAGE = Usage(prompt_tokens=5, completion_tokens=3)


def a_visit(**stations: object) -> Visit:
    """Came at 10 s, lay 0.5 s before that; what is not named was never passed."""
    visit = Visit(id="r", method="POST", path="/v1/completions", received=10.0, wait_s=0.5)
    for name, value in stations.items():
        setattr(visit, name, value)
    return visit


ON_THE_WAY = {"let_in": 10.25, "understood": 11.0, "making": 11.0, "screened": 11.5}


def a_timeline(*events: tuple[object, float], source: Source = Source.ENGINE) -> Timeline:
    timeline = Timeline(received=10.0, source=source)
    for event, at in events:
        timeline.saw(event, at)  # type: ignore[arg-type]  # they are events
    return timeline


def a_record(
    visit: Visit,
    timeline: Timeline,
    outcome: Outcome = Outcome.OK,
    *,
    ended: float = 20.0,
    request: Request | None = None,
) -> RequestRecord:
    timeline.ended = ended
    return RequestRecord(
        id=RequestId("r"),
        route=Route.COMPLETIONS,
        model="m",
        outcome=outcome,
        status=OUTCOMES[outcome].status,
        timeline=timeline,
        request=request,
        usage=USAGE if outcome is Outcome.OK else None,
        visit=visit,
    )


def parts(receipt: Receipt) -> dict[str, float]:
    """Return the parts by name, after a look that nothing lies between them."""
    at, found = 0.0, {}
    for span in receipt.spans:
        assert span.start_s == pytest.approx(at)
        assert span.duration_s >= 0.0
        at = span.start_s + span.duration_s
        found[span.part.value] = span.duration_s
    assert at == pytest.approx(receipt.total_s)
    return found


STREAMED = (
    (Admitted(0.25), 12.0),
    (Scheduled(5), 12.5),
    (Delta("a"), 14.0),
    (Delta("b"), 15.0),
    (Delta("c"), 16.0),
    (Finished(USAGE, EngineTiming(first_token_s=1.75, decode_s=2.0)), 16.0),
)


def test_a_stream_s_parts_are_those_of_its_stations() -> None:
    visit = a_visit(**ON_THE_WAY, ended=16.75)
    receipt = receipt_of(a_record(visit, a_timeline(*STREAMED), ended=16.5))
    assert parts(receipt) == {
        "wait": 0.5,
        "access": 0.25,
        "parse": 0.75,
        "guard": 0.5,
        "queue": 0.5,
        "route": 0.25,
        "prefill": 1.75,
        "decode": 2.0,
        "flush": 0.75,
    }
    assert receipt.ended_in is Part.FLUSH


def test_the_last_byte_ends_a_receipt_and_not_the_record() -> None:
    receipt = receipt_of(a_record(a_visit(**ON_THE_WAY, ended=18.0), a_timeline(*STREAMED)))
    assert receipt.total_s == 8.5


def test_a_whole_answer_s_first_token_is_the_engine_s_word() -> None:
    together = (
        (Admitted(), 12.0),
        (Scheduled(5), 16.0),
        (Delta("abc", tokens=3), 16.0),
        (Finished(USAGE, EngineTiming(first_token_s=1.75, decode_s=2.0)), 16.0),
    )
    visit = a_visit(**ON_THE_WAY, ended=16.25)
    record = a_record(visit, a_timeline(*together), request=a_request(stream=False))
    found = parts(receipt_of(record))
    assert (found["prefill"], found["decode"]) == (1.75, 2.25)
    assert "route" not in found
    until_first = sum(found[name] for name in ("access", "parse", "guard", "queue", "prefill"))
    assert until_first == record.ttft_s


def test_without_the_engine_s_word_the_way_to_it_is_not_told_apart() -> None:
    events = (*STREAMED[:5], (Finished(USAGE), 16.0))
    found = parts(receipt_of(a_record(a_visit(**ON_THE_WAY, ended=16.5), a_timeline(*events))))
    assert found["prefill"] == 2.0
    assert "route" not in found


def test_a_model_that_was_asleep_is_a_part_of_its_own_amid_the_reading() -> None:
    visit = a_visit(**ON_THE_WAY, asleep=10.5, awake=10.75, ended=16.5)
    receipt = receipt_of(a_record(visit, a_timeline(*STREAMED)))
    names = [span.part.value for span in receipt.spans]
    assert names[:5] == ["wait", "access", "parse", "load", "parse"]
    assert parts(receipt)["load"] == 0.25


def test_a_model_that_left_meanwhile_is_loaded_between_guard_and_queue() -> None:
    visit = a_visit(**ON_THE_WAY, asleep=11.5, awake=11.75, ended=16.5)
    names = [span.part.value for span in receipt_of(a_record(visit, a_timeline(*STREAMED))).spans]
    assert names[3:6] == ["guard", "load", "queue"]


def test_what_was_looked_for_in_vain_is_a_part() -> None:
    visit = a_visit(**{**ON_THE_WAY, "making": 11.25}, looked=True, ended=16.5)
    found = parts(receipt_of(a_record(visit, a_timeline(*STREAMED))))
    assert (found["lookup"], found["guard"]) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("source", "name"),
    [(Source.CACHED, "replay"), (Source.REPLAYED, "replay"), (Source.JOINED, "join")],
)
def test_an_answer_that_was_not_made_for_it_has_no_engine_s_parts(
    source: Source, name: str
) -> None:
    events = ((Delta("a"), 14.0), (Delta("b"), 15.0), (Finished(USAGE), 15.0))
    visit = a_visit(let_in=10.25, understood=11.0, looked=True, ended=16.0)
    request = replace(a_request(), reuse=Reuse(read=True, write=True))
    receipt = receipt_of(a_record(visit, a_timeline(*events, source=source), request=request))
    assert parts(receipt) == {"wait": 0.5, "access": 0.25, "parse": 0.75, name: 4.0, "flush": 1.0}
    assert receipt.facts.source == source
    assert receipt.facts.reads_cache


def test_a_vector_is_made_in_the_part_in_which_prompts_are_read() -> None:
    timing = EngineTiming(first_token_s=2.0)
    events = ((Admitted(), 12.0), (Scheduled(5), 14.0), (Finished(USAGE, timing), 14.0))
    visit = a_visit(**ON_THE_WAY, ended=15.0)
    request = replace(a_request(), sampling=Sampling(embed=True))
    found = parts(receipt_of(a_record(visit, a_timeline(*events), ended=14.5, request=request)))
    assert (found["route"], found["prefill"], found["flush"]) == (0.5, 2.0, 0.5)
    assert "decode" not in found


PASSED = ("let_in", "understood", "making", "screened")
EARLY = [
    ((), (), Part.ACCESS, Outcome.UNAUTHENTICATED),
    (PASSED[:1], (), Part.PARSE, Outcome.INVALID),
    (PASSED[:2], (), Part.GUARD, Outcome.CANCELLED),
    (PASSED[:3], (), Part.GUARD, Outcome.REFUSED),
    (PASSED, (), Part.QUEUE, Outcome.OVERLOADED),
    (PASSED, STREAMED[:1], Part.ROUTE, Outcome.ENGINE_ERROR),
    (PASSED, STREAMED[:2], Part.PREFILL, Outcome.TIMED_OUT),
    (PASSED, STREAMED[:4], Part.DECODE, Outcome.CANCELLED),
    (PASSED, STREAMED, Part.FLUSH, Outcome.CANCELLED),
]


@pytest.mark.parametrize(("stations", "events", "ended_in", "outcome"), EARLY)
def test_a_request_that_ended_early_says_where(
    stations: tuple[str, ...],
    events: tuple[tuple[object, float], ...],
    ended_in: Part,
    outcome: Outcome,
) -> None:
    visit = a_visit(**{name: ON_THE_WAY[name] for name in stations}, ended=20.0)
    receipt = receipt_of(a_record(visit, a_timeline(*events), outcome))
    assert receipt.ended_in is ended_in
    assert receipt.spans[-1].part is ended_in
    names = list(parts(receipt))
    assert len(names) == len(receipt.spans), "no part comes twice"
    assert receipt.total_s == 10.5


def test_one_that_gave_up_while_its_model_was_loaded_says_so() -> None:
    early = a_visit(let_in=10.25, asleep=10.5, ended=20.0)
    late = a_visit(**ON_THE_WAY, asleep=11.5, ended=20.0)
    for visit in (early, late):
        receipt = receipt_of(a_record(visit, a_timeline(), Outcome.CANCELLED))
        assert receipt.ended_in is Part.LOAD


def test_one_that_waited_for_a_kept_answer_in_vain_says_so() -> None:
    visit = a_visit(let_in=10.25, understood=11.0, looked=True, ended=20.0)
    receipt = receipt_of(a_record(visit, a_timeline(), Outcome.TIMED_OUT))
    assert parts(receipt)["lookup"] == 9.0


def test_one_that_left_amid_another_s_answer_says_so() -> None:
    visit = a_visit(let_in=10.25, understood=11.0, looked=True, ended=20.0)
    timeline = a_timeline((Delta("a"), 14.0), source=Source.JOINED)
    assert receipt_of(a_record(visit, timeline, Outcome.CANCELLED)).ended_in is Part.JOIN


def test_an_item_of_a_batch_has_the_parts_that_are_its_own() -> None:
    whole = a_visit(let_in=10.25, understood=11.0, items=2)
    whole.body_bytes = whole.answer_bytes = 1_000
    item = part(whole, "r-0", 11.0)
    assert item is not None
    item.making, item.screened = 11.25, 11.5
    whole.ended = 30.0
    timeline = a_timeline(*STREAMED)
    timeline.received = 11.0
    receipt = receipt_of(a_record(item, timeline, ended=17.0))
    found = parts(receipt)
    assert (found["guard"], found["flush"]) == (0.5, 1.0)
    assert not {"wait", "access", "parse"} & set(found)
    assert receipt.facts.of == "r"
    # The bytes of the exchange are in the receipt of the whole, and would count once per item.
    assert (receipt.facts.body_bytes, receipt.facts.answer_bytes) == (0, 0)


def test_an_item_whose_turn_never_came_waited_in_line() -> None:
    item = part(a_visit(let_in=10.25, understood=11.0, items=2), "r-1", 11.0)
    assert item is not None
    receipt = receipt_of(a_record(item, Timeline(received=11.0), Outcome.CANCELLED))
    assert parts(receipt) == {"queue": 9.0}


def test_a_batch_s_own_receipt_holds_the_time_of_its_items() -> None:
    visit = a_visit(let_in=10.25, understood=11.0, items=2, ended=15.0, status=200)
    facts = facts_of_batch(visit)
    assert parts(read(facts)) == {"wait": 0.5, "access": 0.25, "parse": 0.75, "items": 4.0}
    assert (facts.items, facts.outcome, facts.began) == (2, "ok", 9.5)


@pytest.mark.parametrize("status", [(0, "cancelled"), (503, "overloaded"), (400, "invalid")])
def test_a_batch_that_was_not_answered_says_what_it_was_told(status: tuple[int, str]) -> None:
    visit = a_visit(let_in=10.25, understood=11.0, items=2, ended=15.0, status=status[0])
    assert facts_of_batch(visit).outcome == status[1]


def test_parts_sum_to_the_whole_whatever_the_order_of_the_stations() -> None:
    dice = random.Random(7)
    names = ("let_in", "understood", "making", "screened", "asleep", "awake", "ended")
    for _ in range(3_000):
        moments = {name: dice.choice([None, 10 + dice.random() * 9]) for name in names}
        visit = a_visit(**moments, looked=dice.random() < 0.5, wait_s=dice.random())
        if dice.random() < 0.3:
            visit.of = "b"
        events = sorted((10 + dice.random() * 9) for _ in range(5))
        made = list(
            itertools.islice(
                zip((each for each, _ in STREAMED), events, strict=False), dice.randrange(6)
            )
        )
        timeline = a_timeline(*made, source=dice.choice(list(Source)))
        outcome = dice.choice([Outcome.OK, Outcome.CANCELLED, Outcome.TIMED_OUT])
        receipt = receipt_of(
            a_record(visit, timeline, outcome, request=a_request(stream=dice.random() < 0.5))
        )
        parts_sum = sum(span.duration_s for span in receipt.spans)
        assert parts_sum == pytest.approx(receipt.total_s)
        assert all(span.duration_s >= 0.0 for span in receipt.spans)


def test_a_stall_of_the_loop_is_told_over_the_whole_life() -> None:
    asked: list[tuple[float, float]] = []

    def stalled(since: float, until: float) -> float:
        asked.append((since, until))
        return 0.125

    visit = a_visit(**ON_THE_WAY, ended=17.0)
    receipt = receipt_of(a_record(visit, a_timeline(*STREAMED)), stalled)
    assert receipt.facts.loop_stall_s == 0.125
    assert asked == [(9.5, 17.0)]


def test_no_prompt_no_completion_and_no_long_text_is_in_a_receipt() -> None:
    visit = a_visit(**ON_THE_WAY, ended=17.0, path="/x" * 4_000)
    timeline = a_timeline(*((Delta("canary"), 14.0), (Finished(USAGE), 15.0)))
    record = replace(a_record(visit, timeline, request=a_request("canary")), error="e" * 9_000)
    text = msgspec.json.encode(receipt_of(record)).decode()
    assert "canary" not in text
    assert len(text) < 3 * TEXT_CHARACTERS_MAX + 2_500


def test_whose_a_request_is_that_was_turned_away_is_known_if_its_caller_was() -> None:
    record = a_record(a_visit(ended=11.0), a_timeline(), Outcome.RATE_LIMITED)
    assert receipt_of(record).facts.tenant == ""
    known = replace(record, caller=Caller(tenant="acme", user="ada"))
    assert (receipt_of(known).facts.tenant, receipt_of(known).facts.user) == ("acme", "ada")


def test_the_name_of_whoever_began_an_answer_is_no_part() -> None:
    begun = Begun(
        completion_id="c",
        created=1,
        route=Route.COMPLETIONS,
        model="m",
        choices=1,
        shape="",
        imprint="",
        source=Source.CACHED,
    )
    visit = a_visit(let_in=10.25, understood=11.0, looked=True, ended=20.0)
    receipt = receipt_of(a_record(visit, a_timeline((begun, 12.0)), Outcome.CANCELLED))
    assert receipt.ended_in is Part.REPLAY
