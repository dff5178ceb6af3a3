"""Copies of requests for a shadow: who gets them, and that nobody notices."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import NO_REUSE, Reuse, Source
from forebay.core.request import Route as Path
from forebay.policy.rollout import RouteConfig
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lanes, Listing, open_lane
from forebay.serve.ledger import Ledger
from forebay.serve.lifecycle import Lifecycle, State
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from forebay.serve.routes import Routes
from forebay.serve.shadow import Shadows
from tests.support.engines import PuppetEngine
from tests.support.records import a_completed
from tests.support.requests import a_request


class Copying:
    """A pipeline over two models, and shadows behind it."""

    def __init__(self, **config: object) -> None:
        facts = {"split": "old=1", "shadow": "new"} | config
        self.engines = {name: PuppetEngine() for name in ("old", "new")}
        lanes = Lanes(
            [
                open_lane(name, engine, config=AdmissionConfig(), created=0, now=MONOTONIC)
                for name, engine in self.engines.items()
            ],
            listings=[Listing(name="old"), Listing(name="new", versions={"v2": "v2@1"})],
        )
        routes = Routes({"chat": RouteConfig(**facts)}, MONOTONIC, lambda *_, **__: None)  # type: ignore[arg-type]
        self.ledger = Ledger(MONOTONIC)
        self.records: list[RequestRecord] = []
        self.shadows = Shadows(routes, lanes, self.ledger, now=MONOTONIC, dice=lambda: 0.5)
        lifecycle = Lifecycle(lambda: True, retry_after_s=1.0)
        lifecycle.move(State.READY)
        hooks = (self.records.append, self.ledger, routes, self.shadows)
        self.pipeline = Pipeline(
            lifecycle=lifecycle, replay=Replay(), lanes=lanes, hooks=hooks, now=MONOTONIC
        )
        self.shadows.pipeline = self.pipeline

    async def ask(self, via: str = "chat") -> None:
        request = a_request(model="old", via=via, deadline=MONOTONIC() + 60.0, tenant="acme")
        self.ledger.opened(request.id)
        async for _ in self.pipeline.complete(request):
            pass
        self.ledger.closed(request.id)

    async def rest(self) -> None:
        for _ in range(1_000):
            if not self.shadows._under_way:
                return
            await asyncio.sleep(0)
        raise AssertionError("copies without end")

    async def copied(self, record: RequestRecord) -> None:
        """Show the shadows one record; whatever the copy fails of is raised here."""
        self.shadows(record)
        await asyncio.gather(*self.shadows._under_way)


def an_answered(**facts: Any) -> RequestRecord:
    request = a_request(model="old", via="chat", **{"deadline": 60.0} | facts)
    return replace(a_completed(model="old"), request=request, via="chat")


async def test_a_request_by_a_route_with_a_shadow_is_copied_and_measured() -> None:
    copying = Copying()
    await copying.ask()
    await copying.rest()
    made = [(record.model, record.route, record.outcome) for record in copying.records]
    assert made == [
        ("old", Path.CHAT_COMPLETIONS, Outcome.OK),
        ("new", Path.SHADOW, Outcome.OK),
    ]
    assert copying.ledger.imbalance == 0
    assert not copying.ledger._open, "nobody is waited for any more"
    copy = copying.records[1].request
    assert copy is not None
    assert (copy.tenant, copy.priority.name) == ("shadow", "BATCH")
    assert copy.id != "req-1"


async def test_a_copy_stands_for_nothing_that_its_original_stood_for() -> None:
    copying = Copying()
    facts = {"key": "k", "resume_after": 3, "ticket": "t", "repeatable": True}
    await copying.copied(an_answered(**facts, reuse=Reuse(read=True, write=True)))
    (record,) = copying.records
    copy = record.request
    assert copy is not None
    assert (copy.key, copy.resume_after, copy.ticket, copy.via) == (None, None, None, "")
    assert (copy.repeatable, copy.reuse) == (False, NO_REUSE)


async def test_a_copy_has_as_much_time_as_its_original_had() -> None:
    copying, before = Copying(), MONOTONIC()
    await copying.copied(an_answered(received=1.0, deadline=31.0))
    (record,) = copying.records
    copy = record.request
    assert copy is not None
    assert before <= copy.received <= MONOTONIC()
    assert before + 30.0 <= copy.deadline <= MONOTONIC() + 30.0


async def test_a_shadow_can_be_a_version() -> None:
    copying = Copying(shadow="new:v2")
    await copying.ask()
    await copying.rest()
    copy = copying.records[1].request
    assert copy is not None
    assert (copy.model, copy.sampling.adapter) == ("new:v2", "v2@1")


async def test_other_requests_are_not_copied() -> None:
    copying = Copying()
    await copying.ask(via="")
    await copying.rest()
    assert len(copying.records) == 1


@pytest.mark.parametrize(
    ("outcome", "source"),
    [(Outcome.ENGINE_ERROR, Source.ENGINE), (Outcome.OK, Source.CACHED)],
    ids=["failed", "from the cache"],
)
async def test_what_was_not_answered_anew_is_not_copied(outcome: Outcome, source: Source) -> None:
    copying, record = Copying(), replace(an_answered(), outcome=outcome)
    record.timeline.source = source
    await copying.copied(record)
    assert not copying.records


async def test_a_shadow_that_is_not_on_offer_harms_nobody() -> None:
    copying = Copying(shadow="gone")
    await copying.copied(an_answered())
    assert not copying.records
    assert copying.ledger.imbalance == 0


async def test_a_copy_that_fails_is_recorded_and_harms_nobody() -> None:
    copying = Copying()
    copying.engines["new"]._script = lambda _: "e"
    await copying.copied(an_answered())
    assert [record.outcome for record in copying.records] == [Outcome.ENGINE_ERROR]
    assert not copying.ledger._open


async def test_a_share_of_requests_is_copied() -> None:
    copying = Copying(shadow_ratio=0.5)
    await copying.ask()
    await copying.rest()
    assert len(copying.records) == 1


async def test_no_more_copies_run_at_once_than_may() -> None:
    copying = Copying(shadow_running_max=0)
    await copying.ask()
    assert copying.shadows.dropped == 1


async def test_a_stop_ends_the_copies_under_way_and_the_books_balance() -> None:
    copying = Copying()
    copying.engines["new"]._script = lambda _: "h"
    await copying.ask()
    await asyncio.sleep(0)
    await copying.shadows.stop()
    assert [record.outcome for record in copying.records] == [Outcome.OK, Outcome.CANCELLED]
    assert copying.ledger.imbalance == 0
    assert copying.engines["new"].held == 0
    await copying.ask()
    assert not copying.shadows._under_way, "it makes no more"
