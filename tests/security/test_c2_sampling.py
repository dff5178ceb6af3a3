"""Row 10, one request that kills or starves the engine (CVE-2026-44223), on the real one.

Bodies are drawn from our own OpenAPI document, at and beyond every bound.  The scripted engine
gets tens of thousands of them in tests/hostile; here the library itself gets those that pass.
"""

import asyncio
import dataclasses
import json
import os
import random
from pathlib import Path
from typing import Final

import pytest

from forebay.bench.client import Target
from forebay.drill.hostile_case import MODEL, Case, Kind, request
from forebay.drill.hostile_schema import Bodies
from forebay.drill.hostile_sender import Sender
from tests.support.client import chat_body, post
from tests.support.server import serving

pytestmark = [pytest.mark.model, pytest.mark.slow]

REQUESTS: Final = int(os.environ.get("SAMPLING_REQUESTS", "120"))
"""As many as fit into a test; by variable the 20,000 that a release is to have seen."""
CONNECTIONS: Final = 2
"""Few, so that none is refused for the wait that it would have."""
CHAT: Final = "/v1/chat/completions"
ANEW: Final = ("--set", "cache.enabled=false", "--set", "replay.coalesce=false")


async def test_no_mixture_of_parameters_ends_the_engine_or_changes_what_it_says(
    tmp_path: Path, default_model: str
) -> None:
    seed = int(os.environ.get("SIM_SEED", "0"))
    healthy = chat_body(default_model, "Tell me a story.", max_tokens=40, temperature=0)
    with serving(tmp_path, *ANEW) as server:
        await post(server.port, CHAT, healthy)  # its prompt is in the prefix cache from here on
        before, workers = await post(server.port, CHAT, healthy), server.worker_pids()
        bodies = Bodies(json.loads(server.get("/openapi.json")[1]))
        cases = (case(bodies, seed, number, default_model) for number in range(REQUESTS))
        sender = Sender(Target(host="127.0.0.1", port=server.port))
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(sender.work(cases))
        after = await post(server.port, CHAT, healthy)
        told = [dataclasses.asdict(fault) for fault in sender.kept]
        assert not sender.wrong, json.dumps(told, indent=1)
        assert sender.statuses["200"] >= REQUESTS // 5, sender.statuses
        assert server.worker_pids() == workers, "a worker was lost"
        assert after.json()["choices"] == before.json()["choices"]
        assert server.metric("llm_requests_running") == 0


SAMPLING: Final[dict[str, tuple[object, ...]]] = {
    "temperature": (0, 1e-9, 0.7, 1, 2),
    "top_p": (1e-9, 0.1, 0.999, 1),
    "top_k": (1, 2, 50, 1_000_000),
    "min_p": (0, 0.5, 1),
    "frequency_penalty": (-2, 0, 2),
    "presence_penalty": (-2, 0, 2),
    "repetition_penalty": (0.01, 1, 10),
    "seed": (-(2**63), -1, 0, 2**63 - 1),
    "n": (1, 2, 4),
    "stop": ("a", ["\n", " the"], "\ud83d\ude42"),
    "ignore_eos": (True, False),
    "min_tokens": (0, 1, 4),
    "logprobs": (True, False),
    "stream": (True, False),
    "response_format": ({"type": "text"}, {"type": "json_object"}),
}
"""Sound values, most of them at a bound; which go together is left to chance."""


def mixture(draw: random.Random) -> tuple[str, bytes]:
    names = draw.sample(list(SAMPLING), draw.randint(1, 5))
    fields = {name: draw.choice(SAMPLING[name]) for name in names}
    body = chat_body(MODEL, draw.choice(("Hi", "", "x " * 300, "\u0000", "🙂")), max_tokens=8)
    return CHAT, json.dumps(body | fields).encode()


def case(bodies: Bodies, seed: int, number: int, model: str) -> Case:
    draw = random.Random(f"{seed}/{number}")
    path, body = mixture(draw) if number % 2 else bodies.draw(draw)
    named = body.replace(f'"{MODEL}"'.encode(), json.dumps(model).encode())
    sent = request(path, named)
    return Case(number=number, kind=Kind.SCHEMA, sent=sent, path=path, framed=True)
