"""Heads that two servers could read in two ways: each is refused, whole, and the connection ends.

The class: request smuggling (CL/TE), and BadHost, where what is said of the host changes what is
served.
"""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from forebay.gateway.config import GatewayConfig
from forebay.gateway.connection import PIPELINED_MAX
from forebay.gateway.heads import Hosts
from forebay.gateway.terms import Terms
from tests.support.gateways import CHAT, Stage, a_stage, chat
from tests.support.listening import listening

POST = b"POST %b HTTP/1.1\r\nHost: x\r\n" % CHAT.encode()
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps(chat()).encode()
SECOND = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: smuggled\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answered:
    """All that came until the connection ended."""

    text: bytes

    @property
    def statuses(self) -> list[int]:
        """Of each answer."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.text)]

    @property
    def error(self) -> dict[str, str]:
        """The one error."""
        found = json.loads(self.text.partition(b"\r\n\r\n")[2])["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return dict(found)


async def asked(url: str, sent: bytes, *, pieces: int = 0) -> Answered:
    """Send bytes, all at once or in pieces, and read until the server closes."""
    return await asyncio.to_thread(_asked, int(url.rpartition(":")[2]), sent, pieces or len(sent))


def _asked(port: int, sent: bytes, size: int) -> Answered:
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):  # it has been told, and may be cut
            for start in range(0, len(sent), size):
                client.sendall(sent[start : start + size])
        with contextlib.suppress(ConnectionError):
            while data := client.recv(65_536):
                found += data
    return Answered(found)


@pytest.fixture
async def stage() -> Stage:
    return a_stage()


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[str]:
    async with listening(stage, keep_alive_s=0.3) as url:
        yield url


SMUGGLED = {
    "length and coding": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "one length twice": POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": POST + b"Content-Length: 4, 4\r\n\r\nabcd",
    "+4": POST + b"Content-Length: +4\r\n\r\nabcd",
    "-4": POST + b"Content-Length: -4\r\n\r\nabcd",
    "0x4": POST + b"Content-Length: 0x4\r\n\r\nabcd",
    "4 4": POST + b"Content-Length: 4 4\r\n\r\nabcd",
    "no length": POST + b"Content-Length:\r\n\r\nabcd",
    "a length too long": POST + b"Content-Length: 18446744073709551620\r\n\r\nabcd",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\nabcd",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "chunked, chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked with a tab": POST + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
    "chunked behind a control": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked; a=b": POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
    "chunked folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n",
    "a folded header": POST + b"A: b\r\n c: d\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a space before the name": POST + b" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a header without a name": POST + b": b\r\n\r\n",
    "a header without a colon": POST + b"abc\r\n\r\n",
    "LF for CRLF": (POST + b"Content-Length: 0\r\n\r\n").replace(b"\r\n", b"\n"),
    "LF behind a header": POST + b"A: b\nContent-Length: 0\r\n\r\n",
    "CR behind a header": POST + b"A: b\rContent-Length: 0\r\n\r\n",
    "LF behind the line": POST.replace(b"\r\n", b"\n", 1) + b"\r\n",
    "NUL in a value": POST + b"A: b\0c\r\n\r\n",
    "NUL in a name": POST + b"A\0: b\r\n\r\n",
    "a chunk's size overflows": CHUNKED + b"10000000000000004\r\nabcd\r\n0\r\n\r\n",
    "a chunk of 0x4": CHUNKED + b"0x4\r\nabcd\r\n0\r\n\r\n",
    "a chunk of -4": CHUNKED + b"-4\r\nabcd\r\n0\r\n\r\n",
    "a chunk of '4 '": CHUNKED + b"4 \r\nabcd\r\n0\r\n\r\n",
    "a chunk without size": CHUNKED + b"\r\nabcd\r\n0\r\n\r\n",
    "chunks with LF": CHUNKED + b"4\nabcd\n0\n\n",
    "a chunk longer than it says": CHUNKED + b"4\r\nabcde\r\n0\r\n\r\n",
    "LF in a chunk's extension": CHUNKED + b"4;a\nb\r\nabcd\r\n0\r\n\r\n",
    "a length behind chunks": CHUNKED + b"4\r\nabcd\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a coding behind chunks": CHUNKED + b"4\r\nabcd\r\n0\r\nTransfer-Encoding: a\r\n\r\n",
    "an upgrade that hides the body": POST
    + b"Connection: upgrade\r\nUpGraDe: h2c\r\nContent-Length: 4\r\n\r\nabcd",
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
    "CONNECT to a path": b"CONNECT /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "the beginning of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tab in the line": b"GET\t/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /li vez HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET /livez HTTP/1.2\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_what_two_servers_could_read_in_two_ways_is_refused(
    server: str, stage: Stage, sent: bytes
) -> None:
    for pieces in (0, 3):
        answered = await asked(server, sent + SECOND, pieces=pieces)
        assert answered.statuses == [400], answered.text
        assert b"connection: close\r\n" in answered.text
        assert answered.error["code"] == "invalid_request"
        assert b"smuggled" not in answered.text
    assert stage.engine.asked == []


@pytest.mark.parametrize("version", [b"0.9", b"2.0"])
async def test_versions_that_are_not_spoken_are_refused(server: str, version: bytes) -> None:
    answered = await asked(server, b"GET /livez HTTP/%b\r\nHost: x\r\n\r\n" % version + SECOND)
    assert answered.statuses == [505]
    assert answered.error["code"] == "invalid_request"


async def test_a_request_without_a_version_is_refused(server: str) -> None:
    assert (await asked(server, b"GET /livez\r\n\r\n" + SECOND)).statuses == [505]


HOSTS = [
    *(b"x/health?", b"x?a", b"x#a", b"x@y", b"a b", b"x\\y", b"", b"x:", b"x:y", b"[::1", b"x,y"),
    *(b"http://x", b"x:80:80", b"x:999999", b"\xff", b"[x]", b"x;y", b"%78", b"/livez", b"x" * 300),
]


@pytest.mark.parametrize("host", [host for host in HOSTS if host != b"x:"])
async def test_a_host_that_is_none_is_refused(server: str, host: bytes) -> None:
    for path in (b"/livez", b"/admin/ledger"):
        answered = await asked(server, b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host))
        assert answered.statuses == [400]
        assert "Host" in answered.error["message"]


@pytest.mark.parametrize(
    "lines",
    [b"", b"Host: x\r\nHost: x\r\n", b"Host: x\r\nA: b\r\nhOST: y\r\n"],
    ids=["none", "one twice", "two"],
)
async def test_a_request_has_exactly_one_host(server: str, lines: bytes) -> None:
    answered = await asked(server, b"GET /livez HTTP/1.1\r\n%b\r\n" % lines)
    assert answered.statuses == [400]
    assert "Host" in answered.error["message"]


async def test_only_http_1_0_may_do_without_a_host(server: str) -> None:
    assert (await asked(server, b"GET /livez HTTP/1.0\r\n\r\n")).statuses == [200]


@pytest.mark.parametrize("host", [b"x", b"X.y-z_1:8000", b"127.0.0.1:1", b"[::1]", b"[::1]:80"])
async def test_a_host_with_and_without_a_port_is_taken(server: str, host: bytes) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host
    assert (await asked(server, head)).statuses == [200]


TARGETS = [
    *(b"//livez", b"/livez/", b"/./livez", b"/x/../livez", b"/livez;a", b"/livez/..;/livez"),
    *(b"/%6civez", b"/live%7a", b"/%2flivez", b"/%2e/livez", b"/livez%00", b"/livez%3f", b"/LIVEZ"),
    *(
        b"/livez%20",
        b"\\livez",
        b"/\\livez",
        b"*",
        b"/livez\\",
        b"/%61dmin/ledger",
        b"//admin/ledger",
    ),
    *(b"/v1/models/../../admin/ledger", b"/v1/models/%2e%2e/%2e%2e/admin/ledger"),
]


@pytest.mark.parametrize("target", TARGETS)
async def test_no_path_but_the_exact_one_answers(server: str, target: bytes) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target
    answered = await asked(server, head)
    assert answered.statuses in ([404], [400]), answered.text


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://x/livez", 200),
        (b"HTTP://X/livez?a=b", 200),
        (b"http://x", 404),
        (b"http://y/livez", 400),
        (b"http://x:80/livez", 400),
        (b"http://u@x/livez", 400),
        (b"http://x/health?/livez", 200),
        (b"http://x#/livez", 400),
        (b"ftp://x/livez", 400),
        (b"/livez#a", 400),
        (b"/livez?a#b", 400),
        (b"/livez?a=/readyz&b=%2f?", 200),
    ],
)
async def test_a_target_names_the_same_host_or_none(
    server: str, target: bytes, status: int
) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target
    assert (await asked(server, head)).statuses == [status]


async def test_escapes_mean_something_only_in_names(server: str) -> None:
    head = b"GET /v1/models/%6d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await asked(server, head)).statuses == [200]


@pytest.mark.parametrize(
    ("host", "version", "status"),
    [
        (b"Host: api.example.org\r\n", b"1.1", 200),
        (b"Host: API.example.org.:443\r\n", b"1.1", 200),
        (b"Host: [::1]:8000\r\n", b"1.1", 200),
        (b"Host: example.org\r\n", b"1.1", 421),
        (b"Host: evil.api.example.org\r\n", b"1.1", 421),
        (b"Host: api.example.org.evil\r\n", b"1.1", 421),
        (b"Host: api.example.org@evil\r\n", b"1.1", 400),
        (b"", b"1.0", 421),
    ],
)
async def test_with_names_set_the_server_answers_to_no_other(
    stage: Stage, host: bytes, version: bytes, status: int
) -> None:
    terms = Terms(hosts=Hosts.parse("api.example.org, [::1]"))
    head = b"GET /livez HTTP/%b\r\n%bConnection: close\r\n\r\n" % (version, host)
    async with listening(stage, terms=terms) as url:
        assert (await asked(url, head)).statuses == [status]


async def test_headers_behind_a_body_are_no_headers_of_the_request(
    server: str, stage: Stage
) -> None:
    chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
    sent = CHUNKED.replace(b"Transfer", b"Connection: close\r\nTransfer") + chunk
    answered = await asked(server, sent + b"0\r\nX-Request-ID: late\r\nHost: y\r\n\r\n")
    assert answered.statuses == [200]
    assert b"late" not in answered.text
    assert stage.record.outcome == "ok"


BOUNDED = GatewayConfig(headers_max=10, head_bytes_max=2_048, url_bytes_max=128, chunks_max=50)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 9 + b"\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 10 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 1_900 + b"\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 2_048 + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", 431),
        (b"GET /livez?" + b"a" * 121 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /livez?" + b"a" * 122 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (CHUNKED + b"1\r\na\r\n" * 51, 400),
        (CHUNKED + b"1\r\na\r\n0\r\n" + b"A: b\r\n" * 500, 431),
    ],
    ids=[
        *("ten headers", "eleven headers", "a large head", "too large", "far too large"),
        *("a long target", "too long", "many chunks", "a long trailer"),
    ],
)
@pytest.mark.parametrize("pieces", [0, 700], ids=["at once", "in pieces"])
async def test_heads_and_chunks_are_bounded(
    stage: Stage, sent: bytes, status: int, pieces: int
) -> None:
    async with listening(stage, keep_alive_s=0.2, terms=Terms(config=BOUNDED)) as url:
        answered = await asked(url, sent, pieces=pieces)
    assert answered.statuses == [status], answered.text
    if status != 200:
        assert answered.error["code"] == "invalid_request"


async def test_many_tiny_chunks_are_cut_short(stage: Stage) -> None:
    """The class of Triton's CVE-2025-23310: 3 MB of chunks of six bytes."""
    received = 0
    async with listening(stage) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(CHUNKED + b"1\r\n \r\n" * 500_000)
        async with asyncio.timeout(10):
            try:
                received = len(answer := await reader.read(-1))
                assert answer.startswith(b"HTTP/1.1 400 ")
            except ConnectionError:
                assert received == 0  # it was still sending when it was told
        writer.close()
    assert stage.engine.asked == []


async def test_what_chunks_say_beside_their_bytes_is_bounded(server: str, stage: Stage) -> None:
    answered = await asked(server, CHUNKED + (b"1;" + b"a" * 40_000 + b"\r\n \r\n") * 30)
    assert answered.statuses == [400]
    assert stage.engine.asked == []


async def test_what_is_wrong_behind_an_answer_waits_for_it(server: str) -> None:
    body = json.dumps(chat(stream=True)).encode()
    good = POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    answered = await asked(server, good + b"GET /livez HTTP/1.1\r\n\r\n" + SECOND)
    assert answered.statuses == [200, 400]
    first = answered.text.split(b"HTTP/1.1 400")[0]
    assert first.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_wrong_body_behind_an_answer_takes_nothing_from_it(server: str) -> None:
    body = json.dumps(chat(stream=True)).encode()
    good = POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    answered = await asked(server, good + CHUNKED + b"XX\r\n" + SECOND)
    assert answered.statuses == [200, 400]


async def test_a_body_that_nobody_wants_does_not_hold_its_connection(stage: Stage) -> None:
    config = GatewayConfig(body_s_max=0.1, discard_bytes_max=1_000)
    head = b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\na"
    async with listening(stage, keep_alive_s=60.0, terms=Terms(config=config)) as url:
        for more in (b"", b"a" * 2_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(head)
            await reader.readuntil(b"}")
            writer.write(more)
            async with asyncio.timeout(2):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read(-1) == b""
            writer.close()


async def test_pipelined_requests_are_answered_in_order(server: str) -> None:
    answered = await asked(server, SECOND * (PIPELINED_MAX // 2))
    assert answered.statuses == [200] * (PIPELINED_MAX // 2)
