"""A storm over HTTP: most are turned away before their prompts are looked at, and told no lie."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from forebay.core.errors import Outcome
from forebay.core.request import Finished, Scheduled, Usage
from forebay.gateway.calls import Converter
from forebay.policy.forecast import Departure
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lifecycle import State
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, TEXT, a_stage, chat, hang

KNOWN = Departure(
    held_s=5.0,
    taken=1,
    prompt_bytes=20,
    prompt_tokens=5,
    completion_tokens=20,
    tokens_max=64,
    first_token_s=0.1,
    decode_s=4.9,
)


class Moment:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Stormy:
    """A gateway whose one place is taken, in the middle of a storm."""

    def __init__(self, **knobs: Any) -> None:
        self.clock = Moment()
        usual = {"running_max": 1, "storm_per_s": 2, "reserve_ratio": 0.0}
        config = AdmissionConfig(**(usual | knobs))
        self.stage = a_stage([Scheduled(1), hang], admission=config, now=self.clock)
        lane = self.stage.gateway.lanes.find("m")
        self.door = lane.admission._queue
        for _ in range(30):
            self.door.outlook._forecast.learn(KNOWN)

    async def rise(self, **fields: Any) -> None:
        """Take the place, and be refused until there is a storm."""
        self.runs = (
            Exchange(self.stage.gateway, "POST", CHAT)
            .body(json.dumps(chat("runs")).encode())
            .start()
        )
        while not self.door.load.running:
            await self.runs_on()
        while not self.door.storm.rages(self.clock.now):
            assert (await self.asked("first", **fields)).status == 503
        self.stage.records.clear()

    async def runs_on(self) -> None:
        assert self.runs.task is not None
        await asyncio.sleep(0)
        assert not self.runs.task.done()

    async def asked(
        self, text: str = "one more of them", headers: Any = None, **fields: Any
    ) -> Exchange:
        body = {"max_tokens": 64, "stream": True} | fields
        return await ask(self.stage.gateway, "POST", CHAT, chat(text, **body), **(headers or {}))

    async def ends(self) -> None:
        """Let the client of the place go."""
        self.runs.leave()
        assert self.runs.task is not None
        await self.runs.task
        self.stage.records.clear()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the prompts that are looked at."""
    counts: Counter[str] = Counter()
    for name in ("chat", "prompt"):
        plain = getattr(Converter, name)

        def counted(self: Converter, *call: Any, name: str = name, plain: Any = plain) -> Any:
            counts[name] += 1
            return plain(self, *call)

        monkeypatch.setattr(Converter, name, counted)
    return counts


async def test_in_a_storm_one_more_is_refused_unread_with_all_that_a_refusal_says(
    read: Counter[str],
) -> None:
    storm = Stormy()
    await storm.rise()
    read.clear()
    first = await storm.asked("one more")
    second = await storm.asked("and another")
    assert not read
    assert first.status == second.status == 503
    assert first.json["error"]["code"] == "overloaded"
    assert first.json["error"]["message"].endswith("Try again after the time in Retry-After.")
    assert int(second.headers["retry-after-ms"]) > int(first.headers["retry-after-ms"]) > 0
    assert first.headers["x-forebay-ticket"] != second.headers["x-forebay-ticket"]
    assert first.headers["x-should-retry"] == "true"
    await storm.ends()


async def test_who_is_refused_unread_has_one_record_with_what_is_known_of_it() -> None:
    storm = Stormy()
    await storm.rise()
    answer = await storm.asked("one more", headers={"authorization": "Bearer a"})
    assert answer.status == 503
    answer = await storm.asked("and another", headers={"authorization": "Bearer a"})
    for record in storm.stage.records:
        assert (record.outcome, record.status, record.model) == (Outcome.OVERLOADED, 503, "m")
        assert record.error == answer.json["error"]["message"]
        assert record.request is not None
        assert record.request.tenant.startswith("key-")
        assert record.request.stream
    assert len(storm.stage.records) == 2
    await storm.ends()


async def test_the_books_balance_in_and_after_a_storm() -> None:
    storm = Stormy()
    await storm.rise()
    for number in range(20):
        await storm.asked(f"more {number}")
        assert storm.stage.ledger.imbalance == 0
    balance = storm.stage.ledger.balance()
    assert balance.in_flight == 1
    assert balance.outcomes[Outcome.OVERLOADED] >= 20
    await storm.ends()
    assert storm.stage.ledger.imbalance == 0
    assert storm.stage.lifecycle.present == 0


@pytest.mark.parametrize("how", ["by its ticket", "by its body"])
async def test_who_was_refused_unread_gets_a_place_when_it_comes_back(how: str) -> None:
    storm = Stormy()
    await storm.rise()
    refusal = await storm.asked("one more")
    storm.stage.engine.acts = [Scheduled(1), Finished(Usage(1, 0))]
    await storm.ends()
    at_s = int(refusal.headers["retry-after-ms"]) / 1000
    ticket = {"x_forebay_ticket": refusal.headers["x-forebay-ticket"]}
    storm.clock.now += at_s
    back = await storm.asked("one more", headers=ticket if how == "by its ticket" else None)
    assert back.status == 200
    assert storm.door.outlook.promises.redeemed >= 1


@pytest.mark.parametrize(
    "other",
    [
        {"headers": {"authorization": "Bearer neighbour"}},
        {"headers": {"x_priority": "batch"}},
        {"headers": {"idempotency_key": "k"}},
        {"headers": {"x_forebay_ticket": "1-00"}},
        {"headers": {"x_request_timeout": "60"}},
        {"headers": {"cache_control": "max-age=60"}},
        {"temperature": 0},
        {"seed": 7},
        {"n": 2},
        {"max_tokens": 16},
        {"text": ""},
    ],
    ids=repr,
)
async def test_who_may_fare_otherwise_is_read(other: dict[str, Any], read: Counter[str]) -> None:
    storm = Stormy(waiting_max=0)
    await storm.rise()
    read.clear()
    await storm.asked(**other)
    assert read == {"chat": 1}
    read.clear()
    await storm.asked("another")
    assert not read
    await storm.ends()


async def test_a_call_that_cannot_be_is_told_so_in_a_storm_too(read: Counter[str]) -> None:
    storm = Stormy()
    await storm.rise()
    read.clear()
    assert (await storm.asked(temperature=9)).status == 400
    assert (await storm.asked(min_tokens=99, max_tokens=98)).status == 400
    assert (await storm.asked(stop=["x"] * 99)).status == 400
    assert (await storm.asked(tools=[{}])).status == 400
    assert (await storm.asked(model="another")).status == 404
    assert not read
    await storm.ends()


async def test_a_server_that_drains_says_so_in_a_storm_too() -> None:
    storm = Stormy()
    await storm.rise()
    storm.stage.lifecycle.move(State.DRAINING)
    assert (await storm.asked()).json["error"]["code"] == "draining"
    await storm.ends()


async def test_the_other_dialect_has_storms_too(read: Counter[str]) -> None:
    storm = Stormy()
    await storm.rise()
    wish = {"model": "m", "prompt": "more and more and more and more and more", "max_tokens": 64}
    await ask(storm.stage.gateway, "POST", TEXT, wish)
    read.clear()
    wish["prompt"] = "another and more and more and more and more"
    assert (await ask(storm.stage.gateway, "POST", TEXT, wish)).status == 503
    assert not read
    await storm.ends()


async def test_without_a_threshold_all_are_read(read: Counter[str]) -> None:
    storm = Stormy(storm_per_s=2)
    await storm.rise()
    await storm.asked("unread")
    storm.door.reconfigure(AdmissionConfig(running_max=1, storm_per_s=0))
    read.clear()
    for number in range(5):
        assert (await storm.asked(f"more {number}")).status == 503
    assert read == {"chat": 5}
    await storm.ends()
