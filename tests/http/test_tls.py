"""TLS over real sockets, with a certificate authority of our own: all promises are kept over it."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import uvicorn
import uvloop

from forebay.core.errors import Outcome
from forebay.core.request import Delta, Scheduled
from forebay.gateway.config import GatewayConfig
from forebay.gateway.crowd import Crowd, CrowdConfig
from forebay.gateway.terms import Terms
from forebay.gateway.tls import Certificate, Door, TlsConfig
from tests.support.certificates import Authority
from tests.support.gateways import CHAT, Stage, a_stage, chat, hang

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that speaks TLS."""

    port: int
    stage: Stage
    terms: Terms
    certificate: Certificate
    authority: Authority
    folder: Path
    unraised: list[str]
    """What the loop was told of that nobody caught."""

    async def open(
        self, context: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        context = context or self.authority.client()
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)


@asynccontextmanager
async def serving(
    folder: Path, stage: Stage, *, handshake_s_max: float = 5.0, crowd: CrowdConfig | None = None
) -> AsyncIterator[Served]:
    authority = Authority()
    issued = authority.issue(folder, "server")
    files = TlsConfig(
        certificate=str(issued.certificate), key=str(issued.key), handshake_s_max=handshake_s_max
    )
    certificate = Certificate(files)
    terms = Terms(config=stage.gateway.config, crowd=Crowd(crowd))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        stage.gateway,
        http=partial(Door, terms=terms, certificate=certificate),  # type: ignore[arg-type]  # it makes one
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    unraised: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: unraised.append(f"{context['message']} {context.get('exception')!r}")
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.001)
        yield Served(
            port=listener.getsockname()[1],
            stage=stage,
            terms=terms,
            certificate=certificate,
            authority=authority,
            folder=folder,
            unraised=unraised,
        )
        assert unraised == []
    finally:
        server.should_exit = True
        await task


def on_uvloop(test: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a test on the loop that servers run on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


def request(**fields: object) -> bytes:
    body = json.dumps(chat(**fields)).encode()  # type: ignore[arg-type]
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0.001)


def test_whole_answers_and_streams_come_over_tls(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, a_stage()) as served:
            reader, writer = await served.open()
            found = writer.get_extra_info("ssl_object")
            assert found.version() == "TLSv1.3"
            for stream, end in ((False, b"}}"), (True, b"data: [DONE]\n\n\r\n0\r\n\r\n")):
                writer.write(request(stream=stream))
                async with asyncio.timeout(5):
                    assert (await reader.readuntil(end)).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await until(lambda: served.terms.crowd.present == 0)
        assert [record.outcome for record in served.stage.records] == [Outcome.OK] * 2

    on_uvloop(test)


def test_a_request_in_one_flight_with_the_handshakes_end_is_served(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, a_stage()) as served:
            answers = await asyncio.to_thread(_at_once, served)
            assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)

    on_uvloop(test)


def _at_once(served: Served) -> list[bytes]:
    """Send a request in the very packet that ends the handshake, several times."""
    answers = []
    for _ in range(5):
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = served.authority.client().wrap_bio(into, out, server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", served.port), timeout=5) as client:
            while True:
                try:
                    secure.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    client.sendall(out.read())
                    into.write(client.recv(65_536))
            secure.write(LIVEZ)
            client.sendall(out.read())
            found = b""
            while b"}" not in found:
                into.write(client.recv(65_536))
                try:
                    found += secure.read(65_536)
                except ssl.SSLWantReadError:
                    continue
            answers.append(found)
    return answers


@pytest.mark.parametrize(
    ("oldest", "newest", "agreed"),
    [
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, None),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_nothing_older_than_1_2_is_spoken(
    tmp_path: Path, oldest: ssl.TLSVersion, newest: ssl.TLSVersion, agreed: str | None
) -> None:
    async def test() -> None:
        async with serving(tmp_path, a_stage()) as served:
            context = served.authority.client()
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version, context.maximum_version = oldest, newest
            context.set_alpn_protocols(["h2", "http/1.1"])
            if agreed is None:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await served.open(context)
                await until(lambda: served.terms.crowd.present == 0)
                return
            _, writer = await served.open(context)
            secure = writer.get_extra_info("ssl_object")
            assert (secure.version(), secure.selected_alpn_protocol()) == (agreed, "http/1.1")
            assert "GCM" in secure.cipher()[0] or "CHACHA20" in secure.cipher()[0]
            writer.close()

    on_uvloop(test)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("how", ["goodbye", "reset"])
def test_a_client_that_leaves_frees_everything(tmp_path: Path, how: str, *, stream: bool) -> None:
    async def test() -> None:
        stage = a_stage([Scheduled(1), Delta("a"), hang])
        async with serving(tmp_path, stage) as served:
            _, writer = await served.open()
            writer.write(request(stream=stream))
            await until(lambda: stage.engine.held == 1)
            if how == "goodbye":
                writer.close()
            else:
                writer.transport.abort()
            await until(lambda: stage.engine.held == 0 and len(stage.records) == 1)
            await until(lambda: served.terms.crowd.present == 0)
        assert stage.record.outcome is Outcome.CANCELLED

    on_uvloop(test)


async def a_turn() -> None:
    """Let the loop turn, so that what was written is sent."""
    await asyncio.sleep(0)


def test_a_client_that_stops_reading_is_cut(tmp_path: Path) -> None:
    async def test() -> None:
        stage = a_stage(
            [Scheduled(1), *[Delta("x" * 100_000), a_turn] * 200, hang],
            config=GatewayConfig(send_s_max=0.2),
        )
        async with serving(tmp_path, stage) as served:
            client = await asyncio.to_thread(_asking, served, request(stream=True))
            await until(lambda: stage.engine.held == 1)
            await until(lambda: stage.engine.held == 0 and len(stage.records) == 1)
            assert stage.record.outcome is Outcome.CANCELLED
            await until(lambda: served.terms.crowd.present == 0)
            client.close()

    on_uvloop(test)


def _asking(served: Served, sent: bytes) -> ssl.SSLSocket:
    """Send a request, and return the connection without reading from it."""
    client = socket.create_connection(("127.0.0.1", served.port), timeout=5)
    secure = served.authority.client().wrap_socket(client, server_hostname="127.0.0.1")
    secure.sendall(sent)
    return secure


def test_a_handshake_that_does_not_end_is_cut(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, a_stage(), handshake_s_max=0.2) as served:
            clients = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(3)]
            clients[1][1].write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            clients[2][1].write(b"\x16")
            await until(lambda: served.terms.crowd.present == 3)
            for reader, writer in clients:
                async with asyncio.timeout(3):
                    with contextlib.suppress(ConnectionError):
                        await reader.read(-1)
                writer.close()
            await until(lambda: served.terms.crowd.present == 0)

    on_uvloop(test)


@pytest.mark.parametrize("sent", [LIVEZ, b"\x00" * 100, b"", b"\x16\x03\x01\xff\xff" + b"a" * 99])
def test_what_is_not_tls_ends_the_connection(tmp_path: Path, sent: bytes) -> None:
    async def test() -> None:
        async with serving(tmp_path, a_stage()) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(sent)
            writer.write_eof()
            async with asyncio.timeout(3):
                with contextlib.suppress(ConnectionError):
                    assert b"HTTP/" not in await reader.read(-1)
            writer.close()
            await until(lambda: served.terms.crowd.present == 0)

    on_uvloop(test)


def test_one_connection_too_many_is_cut_before_it_costs_a_handshake(tmp_path: Path) -> None:
    async def test() -> None:
        crowd = CrowdConfig(connections_max=2)
        async with serving(tmp_path, a_stage(), crowd=crowd) as served:
            _, idle = await asyncio.open_connection("127.0.0.1", served.port)
            _, held = await served.open()
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await served.open()
            idle.close()
            await until(lambda: served.terms.crowd.present == 1)
            _, again = await served.open()
            held.close()
            again.close()
            await until(lambda: served.terms.crowd.present == 0)

    on_uvloop(test)


def test_a_renewed_certificate_is_shown_to_new_clients_and_old_ones_go_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, a_stage()) as served:
            old_reader, old = await served.open()
            serial = old.get_extra_info("peercert")["serialNumber"]
            issued = served.authority.issue(tmp_path, "server")
            assert await asyncio.to_thread(served.certificate.renew)
            _, new = await served.open()
            shown = int(new.get_extra_info("peercert")["serialNumber"], 16)
            assert shown == issued.serial != int(serial, 16)
            old.write(LIVEZ)
            async with asyncio.timeout(5):
                assert (await old_reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            old.close()
            new.close()

    on_uvloop(test)


def test_a_stopping_server_does_not_wait_for_handshakes(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, a_stage()) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            await until(lambda: served.terms.crowd.present == 1)
        async with asyncio.timeout(0.5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read(-1) == b""
        writer.close()

    on_uvloop(test)
