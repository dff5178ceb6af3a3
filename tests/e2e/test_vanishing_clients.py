"""Clients that leave: everything they held is given back."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from tests.support.client import chat_body, post
from tests.support.server import Server, serving

GAUGES = ("llm_requests_running", "llm_requests_waiting", "llm_engine_sequences_running")


def held(server: Server) -> dict[str, float]:
    return {name: server.metric(name) for name in GAUGES}


async def until_nothing_is_held(server: Server, wait_s_max: float) -> float:
    started = time.monotonic()
    while any((now := await asyncio.to_thread(held, server)).values()):
        assert time.monotonic() - started < wait_s_max, f"still held: {now}"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_after_200_clients_vanished_nothing_is_held(tmp_path: Path, *, stream: bool) -> None:
    dice = random.Random(1)
    options = ("--set", "scripted.decode_s=0.02", "--set", "admission.running_max=64")
    with serving(tmp_path, "--engine", "scripted", *options) as server:

        async def vanish() -> None:
            body = chat_body(
                "scripted", "a b c d e f", max_tokens=5000, ignore_eos=True, stream=stream
            )
            bytes_max = dice.choice((0, 1, 500, 3000)) if stream else 0
            task = asyncio.create_task(post(server.port, "/v1/chat/completions", body, bytes_max))
            if bytes_max == 0:
                await asyncio.sleep(dice.random())
            await asyncio.wait({task}, timeout=dice.random())
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await asyncio.gather(*(vanish() for _ in range(200)))
        await until_nothing_is_held(server, wait_s_max=1.0)
        assert server.metric("llm_requests_total", outcome="cancelled") > 0
        after = await post(
            server.port, "/v1/chat/completions", chat_body("scripted", "hello", max_tokens=2)
        )
        assert after.status == 200
