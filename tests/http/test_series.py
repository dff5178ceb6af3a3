"""The number of series is bounded: nothing that clients send makes one of its own."""

import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from forebay.accounts.people import NewKey
from forebay.app import Service
from forebay.core.caller import RIGHTS, Role
from forebay.core.clock import MONOTONIC
from forebay.engine.protocol import Feature
from forebay.serve.lanes import open_lane
from forebay.serve.lifecycle import State
from scripts.route_access import closed_service
from tests.support.asgi import Exchange, ask
from tests.support.gateways import ActingEngine, chat, said

SERIES_MAX: Final = 2_000
FLOOD: Final = 10_000
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
MADE: Final = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/infer"),
    *("/generate", "/generate_batch", "/generate_stream"),
)
PATHS: Final = (*MADE, "/v1/streams/x", "/v1/models", "/metrics", "/livez", "/nowhere")


class Flooded:
    """A server in closed mode with its own readers, and a key for it."""

    def __init__(self, service: Service, key: str) -> None:
        self.service = service
        self.key = f"Bearer {key}"

    async def ask(
        self, method: str, path: str, *, model: str = "m", key: str | None = None
    ) -> Exchange:
        """Ask for tokens where they are made."""
        prompt = {"messages": None, "prompt": "hi", "input": "hi"} if path != MADE[0] else {}
        body = chat(model=model) | prompt
        return await ask(
            self.service.gateway,
            method,
            path,
            {name: value for name, value in body.items() if value is not None},
            authorization=self.key if key is None else key,
        )

    async def series(self) -> Counter[str]:
        """Return how many series each name has, as a scraper sees them."""
        page = await self.ask("GET", "/metrics")
        lines = page.content.decode().splitlines()
        return Counter(re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#"))


@pytest.fixture
async def flooded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Flooded]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with closed_service(tmp_path) as service:
        assert service.tenancy is not None
        engine = ActingEngine(said("Hello"), frozenset(Feature))
        config = service.live.current.admission
        lane = open_lane("m", engine, config=config, created=0, now=MONOTONIC)
        service.lanes.add(lane)
        service.metrics.watch("m", lane.admission, lane.engine)
        service.lifecycle.move(State.READY)
        directory = service.tenancy.directory
        directory.create_user("admin2", role=Role.ADMIN)
        _, key = directory.create_key(NewKey(user="admin2", scopes=RIGHTS[Role.ADMIN]))
        await service.replay.start()
        async with service.observing.working():
            yield Flooded(service, key)
        await service.replay.stop()


async def test_ten_thousand_unknown_models_paths_methods_and_keys_make_no_series(
    flooded: Flooded,
) -> None:
    # Every route by every method, well asked and badly, makes what series there can be.
    for path in PATHS:
        for method in METHODS:
            for model, key in (("m", None), ("nobody", None), ("m", "Bearer nobody's")):
                await flooded.ask(method, path, model=model, key=key)
    await flooded.series()  # the first scrape is itself counted in the next
    before = await flooded.series()
    dice = random.Random(7)
    for number in range(FLOOD):
        odd = f"{dice.getrandbits(64):x}"
        match number % 4:
            case 0:
                await flooded.ask("POST", dice.choice(MADE), model=f"model-{odd}")
            case 1:
                await flooded.ask(dice.choice(METHODS), f"/{odd}/../{odd}")
            case 2:
                await flooded.ask(f"M{odd}", dice.choice(PATHS))
            case _:
                await flooded.ask("POST", dice.choice(PATHS), key=f"Bearer {odd}")
    after = await flooded.series()
    assert after - before == Counter()
    assert after.total() < SERIES_MAX, after.most_common(20)
    page = (await flooded.ask("GET", "/metrics")).content.decode()
    assert "\nforebay_alias_names_left_out 0.0\n" in page, "a dashboard lost its series"
    counted = sum(flooded.service.ledger.balance().outcomes.values())
    assert counted > FLOOD, "the flood was not served"
