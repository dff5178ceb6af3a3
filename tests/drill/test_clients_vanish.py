"""Drill: 200 clients vanish at random moments while the real model talks to them."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.support.client import chat_body, post
from tests.support.server import Server, serving

CLIENTS = 200
GAUGES = (
    *("llm_requests_running", "llm_requests_waiting"),
    *("llm_engine_sequences_running", "llm_engine_sequences_waiting"),
)


async def vanish(server: Server, model: str, dice: random.Random) -> None:
    body = chat_body(
        model, "Tell me a very long story.", max_tokens=2000, ignore_eos=True, stream=True
    )
    bytes_max = dice.choice((0, 1, 2_000, 6_000))
    task = asyncio.create_task(post(server.port, "/v1/chat/completions", body, bytes_max))
    await asyncio.wait({task}, timeout=1.0 + 3.0 * dice.random())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.model
async def test_after_200_clients_vanished_nothing_is_held_within_a_second(
    tmp_path: Path, default_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(7)
    with serving(tmp_path) as server:
        await asyncio.gather(*(vanish(server, default_model, dice) for _ in range(CLIENTS)))
        gone = time.monotonic()
        while any((held := {name: server.metric(name) for name in GAUGES}).values()):
            assert time.monotonic() - gone < 1.0, f"still held: {held}"
            await asyncio.sleep(0.02)
        freed_s = time.monotonic() - gone
        cancelled = server.metric("llm_requests_total", outcome="cancelled")
        with capsys.disabled():
            print(f"\n{CLIENTS} clients vanished ({cancelled:.0f} mid-request).")
            print(f"All of {', '.join(GAUGES)} read 0 after {freed_s:.3f} s.")
        assert cancelled > CLIENTS / 2
