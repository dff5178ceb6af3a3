"""Real servers that share a real Redis, and what their clients see."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.bench.client import Target
from forebay.drill.client import Seen, ask, chat
from forebay.drill.redis_server import RedisServer, running_redis
from tests.support.redis import needs_redis
from tests.support.server import Server, free_port, serving

pytestmark = needs_redis

PACE = ("--set", "scripted.prefill_s=0.01", "--set", "scripted.decode_s=0.002")
LEASE = ("--set", "replay.lease_s=1")
SECRET = "a-secret-of-redis"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running_redis() as redis:
        yield redis


@pytest.fixture
def two(tmp_path: Path, redis: RedisServer) -> Iterator[list[Server]]:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    options = ("--engine", "scripted", "--set", f"store.url={redis.url}", *PACE, *LEASE)
    with serving(folders[0], *options) as one, serving(folders[1], *options) as other:
        yield [one, other]


async def say(server: Server, key: str, *, stream: bool = False, **fields: object) -> Seen:
    wish = {"max_tokens": 12, "ignore_eos": True, "stream": stream, **fields}
    target = Target(host="127.0.0.1", port=server.port)
    return await ask(target, chat("scripted", "hello", **wish), {"idempotency-key": key})


def made(servers: list[Server]) -> float:
    return sum(server.metric("llm_generation_tokens_total") for server in servers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_sent_to_two_servers_at_once_is_one_generation(
    two: list[Server], stream: bool
) -> None:
    asked = [say(server, f"key-{number}", stream=stream) for number in range(5) for server in two]
    seen = await asyncio.gather(*asked)
    assert all(each.ok for each in seen)
    assert [each.body for each in seen[::2]] == [each.body for each in seen[1::2]]
    assert made(two) == 5 * 12


async def test_a_key_with_another_body_differs_at_the_other_server(two: list[Server]) -> None:
    assert (await say(two[0], "key")).ok
    other = await say(two[1], "key", max_tokens=13)
    assert other.status == 422


async def test_a_stream_of_one_server_is_read_again_at_the_other(two: list[Server]) -> None:
    first = await say(two[0], "key", stream=True)
    status, body = two[1].get(first.headers["x-forebay-stream"])
    assert status == 200
    assert body.encode() == first.body


async def test_a_key_whose_server_was_killed_is_made_by_the_other_when_its_lease_ends(
    two: list[Server],
) -> None:
    lost = asyncio.create_task(say(two[0], "key", max_tokens=800))
    while not two[0].metric("llm_engine_sequences_running"):
        await asyncio.sleep(0.01)
    waiting = asyncio.create_task(say(two[1], "key", max_tokens=800))
    await asyncio.sleep(0.1)
    assert made(two[1:]) == 0
    two[0].process.kill()
    answer = await waiting
    assert answer.ok
    assert not (await lost).ok
    assert made(two[1:]) == 800
    assert "idempotent-replayed" not in answer.headers


async def test_without_redis_keys_hold_within_each_server_and_say_so(
    two: list[Server], redis: RedisServer
) -> None:
    before = await say(two[0], "before")
    redis.crash()
    for number in range(3):
        assert (await say(two[0], f"key-{number}")).ok
    first = await say(two[0], "key")
    again = await say(two[0], "key")
    assert first.ok
    assert first.body == again.body
    assert [each.headers.get("x-forebay-degraded") for each in (first, again)] == ["store"] * 2
    assert (await say(two[0], "before")).body == before.body


async def test_a_server_starts_without_its_redis_and_tells_nobody_the_password(
    tmp_path: Path,
) -> None:
    url = f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"
    with serving(tmp_path, "--engine", "scripted", "--set", f"store.url={url}", *PACE) as server:
        for number in range(4):
            assert (await say(server, f"key-{number}")).ok
        assert (await say(server, "key-0")).headers["idempotent-replayed"] == "true"
        assert "store.away" in {line["message"] for line in server.log_lines()}
        assert server.stop() == 0
        assert SECRET not in server.log.read_text()


def test_an_address_that_is_no_redis_stops_the_start(tmp_path: Path) -> None:
    url = f"http://:{SECRET}@127.0.0.1/0"
    options = ("--engine", "scripted", "--set", f"store.url={url}")
    with serving(tmp_path, *options, ready=False) as server:
        assert server.process.wait(30) == 2
        assert "store.url must begin with" in server.log.read_text()
        assert SECRET not in json.dumps(server.log.read_text())
