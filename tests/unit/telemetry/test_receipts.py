"""The receipts that are kept: which, how many, and found how."""

from dataclasses import replace

from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import RequestId, Route, Source
from forebay.core.visit import Visit, part
from forebay.telemetry.receipt import Facts, facts_of
from forebay.telemetry.receipts import Receipts, ReceiptsConfig
from tests.support.records import a_completed, a_refused


def served(
    receipts: Receipts, id: str = "r", *, tenant: str = "anonymous", over: bool = True
) -> Visit:
    """Let a request end, and its exchange too."""
    visit = Visit(
        id=id, method="POST", path="/", received=1.0, let_in=1.0, understood=1.0, screened=1.0
    )
    record = replace(a_completed(), id=RequestId(id), visit=visit)
    assert record.request is not None
    receipts(replace(record, request=replace(record.request, tenant=tenant)))
    visit.ended = 2.0 if over else None
    if over:
        receipts.over(visit)
    return visit


def refused(receipts: Receipts, id: str) -> None:
    """Turn somebody away at the door."""
    visit = Visit(id=id, method="POST", path="/", received=1.0, ended=1.5)
    record: RequestRecord = a_refused(Outcome.UNAUTHENTICATED)
    receipts(replace(record, id=RequestId(id), visit=visit))
    receipts.over(visit)


def keeping(kept_max: int = 100) -> Receipts:
    return Receipts(ReceiptsConfig(kept_max=kept_max))


def ids(receipts: Receipts) -> list[str]:
    return [facts.id for facts in receipts.latest()]


def test_a_request_is_found_by_its_id_once_its_exchange_is_over() -> None:
    receipts = keeping()
    visit = served(receipts, over=False)
    assert not list(receipts.find("r"))
    visit.ended = 9.0
    receipts.over(visit)
    (facts,) = receipts.find("r")
    assert facts.ended == 9.0


def test_of_two_requests_of_one_id_the_newest_comes_first() -> None:
    receipts = keeping()
    served(receipts, tenant="a")
    served(receipts, tenant="b")
    assert [facts.tenant for facts in receipts.find("r")] == ["b", "a"]


def test_the_oldest_is_forgotten_and_not_found_any_more() -> None:
    receipts = keeping(3)
    for id in ("a", "a", "b", "c", "d"):
        served(receipts, id)
    assert set(ids(receipts)) == {"b", "c", "d"}
    assert len(receipts) == 3
    assert not list(receipts.find("a"))


def test_one_of_two_of_an_id_stays_when_the_other_is_forgotten() -> None:
    receipts = keeping(2)
    served(receipts, "a", tenant="first")
    served(receipts, "b")
    served(receipts, "a", tenant="second")
    assert [facts.tenant for facts in receipts.find("a")] == ["second"]


def test_those_who_are_turned_away_at_the_door_push_nobody_out() -> None:
    receipts = keeping(10)
    served(receipts, "mine")
    for index in range(500):
        refused(receipts, f"flood-{index}")
    assert "mine" in ids(receipts)
    assert len(receipts) == 2
    assert receipts.made == 501


def test_memory_is_bounded_however_many_requests_end_and_never_are_over() -> None:
    receipts = keeping(50)
    for index in range(2_000):
        served(receipts, f"r-{index}")
        assert len(receipts._waiting) < 100  # though nobody reads
    assert len(list(receipts.latest())) == 50
    assert len(receipts._by_id) == 50
    assert not receipts._waiting


def test_an_item_of_a_batch_need_not_wait_for_the_whole() -> None:
    receipts = keeping()
    whole = Visit(id="r", method="POST", path="/", received=1.0, let_in=1.0, understood=1.0)
    item = part(whole, "r-0", 1.0)
    receipts(replace(a_completed(), id=RequestId("r-0"), visit=item))
    assert ids(receipts) == ["r-0"]


def test_a_batch_has_a_receipt_of_its_own() -> None:
    receipts = keeping()
    whole = Visit(
        id="r", method="POST", path="/", received=1.0, let_in=1.0, understood=1.0, items=2
    )
    whole.tenant, whole.status, whole.ended = "acme", 200, 3.0
    receipts.over(whole)
    (facts,) = receipts.find("r")
    assert (facts.tenant, facts.items) == ("acme", 2)


def test_pages_and_copies_have_none() -> None:
    receipts = keeping()
    receipts.over(Visit(id="p", method="GET", path="/livez", received=1.0, ended=1.1, status=200))
    receipts(replace(a_completed(), route=Route.SHADOW))
    assert not ids(receipts)


def test_the_newest_is_listed_first_whoever_was_let_in() -> None:
    receipts = keeping()
    refused(receipts, "refused")  # it ended at 1.5 s
    served(receipts, "served")  # and this one at 2 s
    assert ids(receipts) == ["served", "refused"]


def test_of_a_stranger_and_a_caller_with_one_id_each_is_forgotten_alone() -> None:
    receipts = keeping(10)  # of strangers: 1
    served(receipts, "a")
    refused(receipts, "a")
    refused(receipts, "b")
    assert [facts.outcome for facts in receipts.find("a")] == [Outcome.OK]
    for _ in range(10):
        served(receipts, "c")
    assert not list(receipts.find("a"))
    assert len(list(receipts.find("c"))) == 10
    assert len(list(receipts.find("b"))) == 1


def test_failing_at_pages_that_are_open_to_all_pushes_out_nobody() -> None:
    receipts = keeping(10)
    served(receipts, "a")
    for number in range(20):
        visit = Visit(id=f"p{number}", method="POST", path="/livez", received=1.0, let_in=1.0)
        visit.ended = 1.5
        record = replace(a_refused(Outcome.INVALID), route=Route.PROBE, visit=visit)
        receipts(replace(record, id=RequestId(visit.id)))
        receipts.over(visit)
    assert len(list(receipts.find("a"))) == 1
    assert ids(receipts) == ["a", "p19"]


def test_what_is_kept_stands_under_the_name_that_it_had() -> None:
    visit = Visit(id="r", method="POST", path="/x", received=1.0, wait_s=0.5, of="batch")
    visit.let_in, visit.understood, visit.making, visit.screened = 1.1, 1.2, 1.3, 1.4
    visit.asleep, visit.awake, visit.ended, visit.looked = 1.5, 1.6, 9.0, True
    visit.workers, visit.failovers, visit.limit, visit.guard = (1,), ("lost",), "limit", "guard"
    visit.reserved_tokens, visit.cost_nanos = 11, 12
    timeline = Timeline(received=1.0, admitted=2.1, scheduled=2.2, first_token=2.3, last_token=2.4)
    timeline.ended, timeline.ttft_forecast_s, timeline.source = 2.5, 2.6, Source.JOINED
    record = replace(
        a_refused(Outcome.CANCELLED),
        visit=visit,
        timeline=timeline,
        via="route",
        model="model",
        error="why",
        id=RequestId("r"),
    )
    visit.route, visit.status = record.route, record.status
    facts = facts_of(record)
    # Of an item of a batch, the sizes and the wait are the batch's.
    theirs = {"ended", "wait_s", "body_bytes", "answer_bytes", "tenant", "items"}
    checked = set()
    for each in (visit, timeline, record):
        for name in set(Facts.__struct_fields__) - theirs:
            if hasattr(each, name):
                checked.add(name)
                assert getattr(facts, name) == getattr(each, name), name
    assert len(checked) == 29
