"""Bad requests beside a healthy one on the real model: it says what it says alone, to the bit."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.test_hostile_input import CHAT, ROWS
from tests.support.client import Answer, chat_body, post
from tests.support.server import serving

pytestmark = [pytest.mark.model, pytest.mark.slow]


async def test_a_healthy_request_is_the_same_beside_every_bad_one(
    tmp_path: Path, default_model: str
) -> None:
    healthy = chat_body(
        default_model,
        "Tell me a story.",
        max_tokens=300,
        ignore_eos=True,
        temperature=0,
        logprobs=True,
    )
    bad = {
        row: (body.replace(b'"scripted"', f'"{default_model}"'.encode()), status)
        for row, (body, status, _) in ROWS.items()
    }
    anew = ("--set", "cache.enabled=false", "--set", "replay.coalesce=false")
    with serving(tmp_path, *anew) as server:
        await post(server.port, CHAT, healthy)  # its prompt is in the prefix cache for both
        alone = await post(server.port, CHAT, healthy)
        beside = asyncio.create_task(post(server.port, CHAT, healthy))
        refused: dict[str, Answer] = {}
        for row, (body, _) in bad.items():
            refused[row] = await post(server.port, CHAT, body)
        assert not beside.done(), "the bad ones were not beside it"
        answer = await beside
        assert {row: one.status for row, one in refused.items()} == {
            row: status for row, (_, status) in bad.items()
        }
        assert answer.json()["choices"] == alone.json()["choices"]
        assert server.metric("llm_worker_restarts_total") == 0
