"""What a loop that does not turn costs a request, and that its receipt says so."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from forebay.core.clock import MONOTONIC
from forebay.core.request import Delta, Finished, FinishReason, Scheduled, Usage
from forebay.gateway.arrival import Arrivals
from forebay.gateway.terms import Terms
from forebay.telemetry.loop_lag import PERIOD_S, LoopLag
from tests.support.gateways import CHAT, a_stage, chat
from tests.support.listening import listening
from tests.support.receipts import receipted

STALL_S = 0.1
KERNEL_S = 0.012
"""Two steps of a kernel's clock that turns 250 times a second, and the way there and back."""


@dataclass
class Client:
    """A connection in a thread of its own, which the loop cannot keep."""

    port: int
    blocked: threading.Event = field(default_factory=threading.Event)
    wall_s: float = 0.0
    receipt: dict[str, Any] = field(default_factory=dict)

    def ask(self, wait_s: float) -> None:
        """Ask so long after the loop is blocked; then read the receipt."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            body = json.dumps(chat()).encode()
            head = (
                f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-request-id: r1\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            ).encode()
            self._exchange(connection, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            self.blocked.wait(5)
            time.sleep(wait_s)
            began = time.perf_counter()
            self._exchange(connection, head + body)
            self.wall_s = time.perf_counter() - began
            page = self._exchange(connection, b"GET /v1/requests/r1 HTTP/1.1\r\nhost: x\r\n\r\n")
            self.receipt = json.loads(page.partition(b"\r\n\r\n")[2])

    @staticmethod
    def _exchange(connection: socket.socket, request: bytes) -> bytes:
        connection.sendall(request)
        answer = b""
        while True:
            head, blank, body = answer.partition(b"\r\n\r\n")
            if blank and len(body) >= int(head.partition(b"content-length: ")[2].split()[0]):
                return answer
            answer += connection.recv(65_536)


def served(
    acts: Callable[[Client], list[object]], block: Callable[[Client], Coroutine[Any, Any, None]]
) -> Client:
    """Serve one request over uvloop, as the server does, while the loop is blocked as asked."""

    async def play() -> Client:
        lag, client = LoopLag(MONOTONIC), Client(0)
        lag.start(asyncio.get_running_loop())
        stage = receipted(a_stage(acts(client)), stalled=lag.stalled_s)
        async with listening(stage, terms=Terms(arrivals=Arrivals(lag))) as url:
            client.port = int(url.rpartition(":")[2])
            asking = asyncio.create_task(asyncio.to_thread(client.ask, 0.03))
            await block(client)
            await asyncio.wait_for(asking, 5)
        lag.stop()
        return client

    return uvloop.run(play())


def said(*between: object) -> list[object]:
    first = (Scheduled(5), Delta("a"))
    return [*first, *between, Delta("b", finish_reason=FinishReason.STOP), Finished(Usage(5, 2))]


async def block_soon(client: Client) -> None:
    """Block the loop once the client is connected and waits for that."""
    await asyncio.sleep(0.2)
    client.blocked.set()
    time.sleep(STALL_S)  # noqa: ASYNC251 - it is what is tested


def test_bytes_that_lay_here_while_the_loop_was_blocked_are_told_as_wait() -> None:
    client = served(lambda _: said(), block_soon)
    parts = {each["part"]: each["duration_ms"] / 1_000 for each in client.receipt["parts"]}
    lay_s = STALL_S - 0.03
    assert parts["wait"] == pytest.approx(lay_s, abs=KERNEL_S + 0.01)
    assert client.receipt["total_ms"] / 1_000 == pytest.approx(client.wall_s, abs=KERNEL_S)
    assert client.receipt["loop_stall_ms"] / 1_000 >= lay_s - PERIOD_S - KERNEL_S


def test_without_the_kernel_s_word_the_stall_itself_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("forebay.gateway.arrival._since_received_s", lambda _: None)
    client = served(lambda _: said(), block_soon)
    wait_s = client.receipt["parts"][0]["duration_ms"] / 1_000
    assert wait_s >= STALL_S - PERIOD_S - 0.005


def test_a_loop_that_is_blocked_amid_a_request_is_told_over_its_life() -> None:
    def acts(_: Client) -> list[object]:
        async def block() -> None:
            time.sleep(STALL_S)  # noqa: ASYNC251 - it is what is tested

        return said(block)

    async def begin(client: Client) -> None:
        client.blocked.set()

    receipt = served(acts, begin).receipt
    assert STALL_S - PERIOD_S - 0.005 <= receipt["loop_stall_ms"] / 1_000 < 2 * STALL_S
    parts = {each["part"]: each["duration_ms"] / 1_000 for each in receipt["parts"]}
    assert parts["wait"] < STALL_S / 2
    assert parts["decode"] >= STALL_S


def test_a_loop_that_turns_costs_nobody_anything() -> None:
    async def begin(client: Client) -> None:
        client.blocked.set()

    receipt = served(lambda _: said(), begin).receipt
    assert receipt["parts"][0]["duration_ms"] < 1_000 * STALL_S / 2
