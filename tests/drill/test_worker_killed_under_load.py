"""Drill: `kill -9` of the worker while 50 requests run on the real model."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.client import Answer, chat_body, post
from tests.support.server import Server, serving

REQUESTS, TOKENS = 50, 48


def body_of(model: str, index: int) -> dict[str, object]:
    return chat_body(
        model,
        f"Count slowly from {index} upwards.",
        max_tokens=TOKENS,
        ignore_eos=True,
        temperature=0,
        stream=index % 2 == 0,
    )


async def drill(server: Server, model: str) -> tuple[list[Answer], float]:
    path = "/v1/chat/completions"
    tasks = [
        asyncio.create_task(post(server.port, path, body_of(model, i))) for i in range(REQUESTS)
    ]
    while await asyncio.to_thread(server.metric, "llm_engine_sequences_running") < 10:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    [pid] = server.worker_pids()
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    ready = asyncio.create_task(asyncio.to_thread(ready_again, server, killed))
    return await asyncio.gather(*tasks), await ready


def ready_again(server: Server, killed: float) -> float:
    while server.get("/readyz")[0] == 200 and time.monotonic() - killed < 5.0:
        time.sleep(0.005)
    server.until_ready()
    return time.monotonic() - killed


def fate(index: int, answer: Answer) -> str:
    kind = "whole" if index % 2 else "stream"
    if answer.status != 200:
        return f"{kind}: refused with {answer.status} before its first byte"
    if kind == "whole":
        return "whole: answered"
    assert answer.frames[-1] == "[DONE]", "a stream ended in silence"
    if any("error" in json.loads(frame) for frame in answer.frames[:-1]):
        return "stream: ended with an error frame"
    return "stream: finished"


@pytest.mark.model
async def test_no_request_is_lost_and_no_stream_is_broken(
    tmp_path: Path, default_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path) as server:
        async with asyncio.timeout(120):
            answers, ready_s = await drill(server, default_model)
        fates = Counter(fate(index, answer) for index, answer in enumerate(answers))
        with capsys.disabled():
            print(f"\n{REQUESTS} requests, worker killed with SIGKILL; ready after {ready_s:.2f} s")
            for name, count in sorted(fates.items()):
                print(f"  {count:3d}  {name}")
        assert fates["whole: answered"] == fates["stream: finished"] == REQUESTS // 2
        assert server.metric("llm_requests_total") == REQUESTS
        assert server.metric("llm_requests_running") == 0
