"""A worker is lost under load: what happens to each request, and when the server is well again."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.client import Answer, chat_body, post
from tests.support.server import Server, serving

PATH = "/v1/chat/completions"


def body_of(index: int) -> dict[str, object]:
    """Every second one is a stream; words differ, so that answers can be told apart."""
    text = f"say number {index} again and again"
    return chat_body("scripted", text, max_tokens=60, ignore_eos=True, stream=index % 2 == 0)


async def load_with_a_loss(server: Server, number: signal.Signals) -> list[Answer]:
    running = [asyncio.create_task(post(server.port, PATH, body_of(i))) for i in range(50)]
    await asyncio.sleep(0.25)
    [pid] = server.worker_pids()
    os.kill(pid, number)
    return await asyncio.gather(*running)


def whole_ones_are_all_answered(answers: list[Answer]) -> None:
    for index, answer in enumerate(answers):
        if index % 2:
            assert answer.status == 200, answer.body
            assert answer.json()["usage"]["completion_tokens"] == 60
            assert str(index) in answer.text


def streams_are_unbroken(answers: list[Answer]) -> None:
    for index, answer in enumerate(answers):
        if index % 2 == 0:
            assert answer.status == 200
            assert answer.frames[-1] == "[DONE]", "a stream ended in silence"
            said = [json.loads(frame)["choices"][0] for frame in answer.frames[:-1]]
            text = "".join(choice["delta"].get("content") or "" for choice in said)
            assert text == f"say number {index} again and again " * 10
            assert said[-1]["finish_reason"] == "length"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["SIGKILL", "SIGSTOP"])
async def test_no_whole_request_is_lost_and_no_stream_is_broken(
    tmp_path: Path, number: signal.Signals
) -> None:
    options = ("--set", "scripted.decode_s=0.01", "--set", "supervisor.stall_s=1.0")
    with serving(tmp_path, "--engine", "scripted", *options) as server:
        before = server.worker_pids()
        async with asyncio.timeout(60):
            answers = await load_with_a_loss(server, number)
        whole_ones_are_all_answered(answers)
        streams_are_unbroken(answers)
        await asyncio.to_thread(server.until_ready)
        assert server.worker_pids() != before
        assert server.metric("llm_worker_restarts_total") == 1
        assert server.metric("llm_requests_running") == 0
        outcomes = server.metric("llm_requests_total")
        assert outcomes == 50, "each request has one outcome"


async def test_a_request_that_kills_workers_is_not_run_a_third_time(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine", "scripted") as server:
        poison = chat_body("scripted", "!die", max_tokens=5)
        answer = await post(server.port, PATH, poison)
        assert answer.status == 500
        assert answer.json()["error"]["code"] == "engine_error"
        assert server.metric("llm_worker_restarts_total") == 2
        await asyncio.to_thread(server.until_ready)
        healthy = await post(server.port, PATH, chat_body("scripted", "hello", max_tokens=2))
        assert healthy.status == 200


async def test_with_two_workers_the_server_stays_ready_while_one_is_replaced(
    tmp_path: Path,
) -> None:
    options = ("--set", "scripted.decode_s=0.01", "--set", "engine.workers=2")
    with serving(tmp_path, "--engine", "scripted", *options) as server:
        before = server.worker_pids()
        assert len(before) == 2
        running = [asyncio.create_task(post(server.port, PATH, body_of(i))) for i in range(20)]
        await asyncio.sleep(0.25)
        os.kill(before[0], signal.SIGKILL)
        while len(server.worker_pids()) < 2 or server.worker_pids() == before:
            assert (await asyncio.to_thread(server.get, "/readyz"))[0] == 200
            await asyncio.sleep(0.01)
        answers = await asyncio.gather(*running)
        whole_ones_are_all_answered(answers)
        streams_are_unbroken(answers)
        assert before[1] in server.worker_pids()
