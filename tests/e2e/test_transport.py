"""A whole server on the network's side: what listens, who is cut, and a certificate renewed."""

import asyncio
import json
import os
import signal
import socket
import stat
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.client import chat_body, post
from tests.support.server import Server, serving

CHAT = "/v1/chat/completions"
_LISTENING = "0A"
"""A socket's state in /proc/net/tcp."""


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def sockets(pids: list[int]) -> set[str]:
    """Return the inodes of these processes' sockets."""
    found = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def listening(inodes: set[str]) -> list[tuple[str, int]]:
    """Return protocol and port of every one that strangers could send to."""
    found = []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]:
            fields = line.split()
            reached = protocol.startswith("udp") or fields[3] == _LISTENING
            if reached and fields[9] in inodes:
                found.append((protocol, int(fields[1].rpartition(":")[2], 16)))
    return found


def unix_paths(inodes: set[str]) -> list[str]:
    """Return the paths of the Unix sockets that listen; abstract ones begin with @."""
    found = []
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if fields[6] in inodes and int(fields[3], 16) & 0x10000:
            found.append(fields[7] if len(fields) > 7 else "")
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc/net here")
def test_only_the_api_port_listens(tmp_path: Path) -> None:
    """The class of ShadowRay, TCPStore, Ollama: a port of the inside, open to all."""
    with serving(tmp_path, "--engine", "scripted", "--set", "engine.workers=2") as server:
        assert len(server.worker_pids()) == 2
        inodes = sockets(list(tree(server.process.pid)))
        assert listening(inodes) == [("tcp", server.port)]
        for path in unix_paths(inodes):
            assert path.startswith("/"), "an abstract socket has no permissions"
            file = Path(path)
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert file.stat().st_uid == os.getuid()


async def test_good_clients_are_served_beside_five_hundred_slow_ones(tmp_path: Path) -> None:
    """Slowloris: heads and bodies that drip, answers that nobody reads."""
    bounds = ("gateway.head_s_max=2", "gateway.body_s_max=2", "gateway.send_s_max=2")
    arguments = [word for bound in bounds for word in ("--set", bound)]
    with serving(tmp_path, "--engine", "scripted", *arguments) as server:
        slow = [await dripping(server, kind % 3) for kind in range(500)]
        for _ in range(20):
            answer = await post(server.port, CHAT, chat_body("scripted", "hello", max_tokens=4))
            assert answer.status == 200
        async with asyncio.timeout(20):
            await asyncio.gather(*(cut(reader, writer) for reader, writer in slow))
        assert server.process.poll() is None
        assert server.metric("llm_ledger_imbalance") == 0


async def dripping(server: Server, kind: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection that goes on for ever if it is let."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n"
    body = json.dumps(chat_body("scripted", "hello", max_tokens=4)).encode()
    match kind:
        case 0:
            writer.write(head.encode())
        case 1:
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        case _:
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n1\r\n ".encode())
    return reader, writer


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Go on dripping until the server ends the connection."""
    try:
        while not reader.at_eof() and reader.exception() is None:
            writer.write(b"A")
            await asyncio.sleep(0.5)
            if reader._buffer:  # type: ignore[attr-defined]  # it was told why
                break
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


async def test_a_connection_too_many_is_told_so_and_closed(tmp_path: Path) -> None:
    limits = ("--set", "server.connections_max=20", "--set", "server.connections_per_address_max=8")
    with serving(tmp_path, "--engine", "scripted", *limits) as server:
        kept = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(8)]
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(5):
            answer = await reader.read(-1)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
        for _, each in (*kept, (reader, writer)):
            each.close()
        await asyncio.sleep(0.1)
        assert server.get("/livez")[0] == 200


def test_tls_is_served_and_its_certificate_renewed_by_a_signal(tmp_path: Path) -> None:
    authority = Authority()
    issued = authority.issue(tmp_path, "server")
    files = ["--set", f"server.tls_certificate={issued.certificate}"]
    files += ["--set", f"server.tls_key={issued.key}"]
    with serving(tmp_path, "--engine", "scripted", *files, ready=False) as server:
        first = shown(server, authority)
        assert first == issued.serial
        url = f"https://127.0.0.1:{server.port}/livez"
        with urllib.request.urlopen(url, timeout=5, context=authority.client()) as answer:
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
        again = authority.issue(tmp_path, "server")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(100):
            if shown(server, authority) == again.serial:
                break
        assert shown(server, authority) == again.serial
        authority.issue(tmp_path, "server", days=(-3.0, -1.0))
        server.process.send_signal(signal.SIGHUP)
        for _ in range(100):
            refused = [
                line for line in server.log_lines() if line.get("message") == "settings.refused"
            ]
            if refused:
                break
            shown(server, authority)
        assert "expired" in refused[0]["forebay.reason"]
        assert shown(server, authority) == again.serial
        assert server.stop() == 0


def shown(server: Server, authority: Authority) -> int:
    """Return the serial number of the certificate that the server shows; wait for it to listen."""
    for _ in range(200):
        try:
            raw = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            break
        except ConnectionRefusedError:
            assert server.process.poll() is None, server.log.read_text()[-2000:]
            time.sleep(0.05)
    with authority.client().wrap_socket(raw, server_hostname="127.0.0.1") as secure:
        found = secure.getpeercert()
    assert found is not None
    return int(str(found["serialNumber"]), 16)


def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    issued = Authority().issue(tmp_path, "server", days=(-3.0, -1.0))
    files = ["--set", f"server.tls_certificate={issued.certificate}"]
    files += ["--set", f"server.tls_key={issued.key}"]
    with serving(tmp_path, "--engine", "scripted", *files, ready=False) as server:
        assert server.process.wait(timeout=30) != 0
        assert "server.tls_certificate expired on" in server.log.read_text()
