"""Several models in one server: in turn in one place, under routes that learn, with shadows."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.client import Answer, chat_body, post
from tests.support.server import Server, serving

CHAT = "/v1/chat/completions"


def configured(folder: Path, text: str) -> tuple[str, str]:
    file = folder / "forebay.yaml"
    file.write_text(text)
    return "--config", str(file)


async def ask(server: Server, model: str, **how: Any) -> Answer:
    body = chat_body(model, "one two three", max_tokens=4, ignore_eos=True, **how)
    return await post(server.port, CHAT, body)


async def admin(server: Server, path: str) -> Any:
    status, body = await asyncio.to_thread(server.get, path)
    assert status == 200, body
    return json.loads(body)


TWO = """\
residency: {loaded_max: 1, stay_s_min: 0}
models:
  a: {engine: scripted, aliases: [gpt]}
  b: {engine: scripted, preload: false}
"""


async def test_two_models_take_turns_in_one_place_and_no_request_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path, *configured(tmp_path, TWO)) as server:
        asked = [asyncio.create_task(ask(server, model)) for model in ("a", "b", "gpt", "b") * 5]
        answers = await asyncio.gather(*asked)
        assert Counter(answer.status for answer in answers) == {200: 20}
        assert Counter(answer.json()["model"] for answer in answers) == {"a": 10, "b": 10}
        states = {each["id"]: each for each in (await admin(server, "/admin/models"))["models"]}
        assert sum(state["loaded"] for state in states.values()) == 1
        assert states["b"]["load_s"] > 0
        assert server.metric("llm_model_requests_total", model="b", result="miss") >= 1
        assert server.metric("llm_ledger_imbalance") == 0
        assert len(server.worker_pids()) == 1


ROUTED = """\
models:
  stable: {engine: scripted, options: {decode_s: 0.002}}
  slower: {engine: scripted, options: {decode_s: 0.03}}
  same: {engine: scripted, options: {decode_s: 0.002}}
routes:
  bad:
    split: {stable: 100}
    candidate: slower
    steps: 50, 100
    step_requests_min: 40
    step_s_min: 0
  good:
    split: {stable: 100}
    candidate: same
    steps: 50, 100
    step_requests_min: 20
    step_s_min: 0
    slower_ratio_max: 50
    shadow: slower
"""


async def route(server: Server, name: str) -> Any:
    routes = (await admin(server, "/admin/routes"))["routes"]
    return next(each for each in routes if each["id"] == name)


async def rounds(server: Server, model: str, *, count: int) -> Counter[str]:
    answers = []
    for _ in range(count):
        answers += await asyncio.gather(*(ask(server, model) for _ in range(10)))
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.json()["model"] for answer in answers)


async def test_a_candidate_that_is_slower_rolls_itself_back(tmp_path: Path) -> None:
    with serving(tmp_path, *configured(tmp_path, ROUTED)) as server:
        before = await rounds(server, "bad", count=12)
        assert before["slower"] >= 20, "it had its share"
        state = await route(server, "bad")
        assert state["stage"] == "rolled_back", state
        assert state["shares"] == {"stable": 1.0, "slower": 0.0}
        assert " ms, the baseline's " in state["reason"]
        assert await rounds(server, "bad", count=3) == {"stable": 30}
        assert '"route.rolled_back"' in server.log.read_text()
        assert server.metric("llm_route_share_ratio", name="bad", model="slower") == 0
        assert server.metric("llm_route_share_ratio", name="bad", model="stable") == 1


async def test_one_that_does_as_well_is_promoted_while_a_shadow_gets_copies(tmp_path: Path) -> None:
    with serving(tmp_path, *configured(tmp_path, ROUTED)) as server:
        await rounds(server, "good", count=12)
        assert (await route(server, "good"))["stage"] == "promoted"
        assert await rounds(server, "good", count=2) == {"same": 20}
        copies = 0.0
        for _ in range(100):
            copies = server.metric("llm_requests_total", route="shadow", model="slower")
            if copies:
                break
            await asyncio.sleep(0.05)
        assert copies > 0
        assert server.metric("llm_ledger_imbalance") == 0
