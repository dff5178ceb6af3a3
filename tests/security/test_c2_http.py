"""Rows 3, 12 and 17 over real connections: addresses that lie, heads and bodies without bounds."""

import json
import time

import pytest

from forebay.core.caller import RIGHTS, Caller, Role
from forebay.drill import hostile_smuggling
from forebay.gateway.config import GatewayConfig
from tests.support.gateways import CHAT, Stage, a_stage, chat, keys
from tests.support.talk import answers, port_of, said

USER = Caller(tenant="acme", user="ann", rights=RIGHTS[Role.USER])
BODY = json.dumps(chat()).encode()


def closed() -> Stage:
    return a_stage(local=True, credentials=keys({"right": USER}))


def posted(head: str = "", body: bytes = BODY, path: str = CHAT) -> bytes:
    lines = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


HOSTS = (
    *("x/livez?", "x/health?", "x?/livez", "x#/livez", "livez@x", "x/livez#", "/livez", "x//"),
    *("x\\livez", "x/livez\x01", "[::1]/livez", "x:80/livez?", "x%2flivez", "..;/livez", ""),
)
TARGETS = (
    *("//livez/metrics", "/livez/../metrics", "/livez/..;/metrics", "/livez%2f..%2fmetrics"),
    *("/livez?/../metrics", "/%2e%2e/metrics", "/livez;/metrics", "/metrics?/livez", "*"),
    *("http://x/metrics", "http://livez@x/metrics", "http://x/livez?@/metrics", "///livez"),
    *("/livez#/metrics", "/metrics/livez", "/metrics%00/livez", "/metrics;/livez", "/LIVEZ"),
    *("/livez\\metrics", "/livez/", "/livez.", "/livez%20", "/livez%2f", "/./livez", "/x/../livez"),
)
LIVE = b'{"status":"live"}'


async def test_a_host_that_holds_a_path_opens_nothing() -> None:
    """Row 3, BadHost (CVE-2026-48710): the address is never put together from the Host."""
    stage = closed()
    async with port_of(stage) as port:
        for path in ("/metrics", "/v1/models", "/admin/ledger", "/docs", "/nothing"):
            for host in HOSTS:
                sent = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
                found = await answers(port, sent)
                assert {reply.status for reply in found} <= {400, 401, 421}, (path, host)


async def test_a_target_spelled_otherwise_opens_nothing() -> None:
    """Row 3: the path is looked up as it is; whatever is not an open route wants a credential."""
    async with port_of(closed()) as port:
        for target in TARGETS:
            found = await answers(port, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            for reply in found:  # what stands behind `?` is no part of the path
                assert reply.status in {400, 401} or reply.body == LIVE, target


async def test_an_open_route_answers_by_its_one_spelling() -> None:
    (reply,) = await said(closed(), b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.status == 200


async def test_a_header_of_an_internal_route_opens_nothing() -> None:
    """Row 4: no header rewrites the path or the caller."""
    names = (
        *("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Uri"),
        *("X-HTTP-Method-Override", "X-Forwarded-User", "X-Remote-User", "X-Forwarded-For"),
    )
    async with port_of(closed()) as port:
        for name in names:
            for value in ("/livez", "GET", "admin", "127.0.0.1"):
                sent = f"GET /metrics HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\n\r\n".encode()
                (reply,) = await answers(port, sent)
                assert reply.status == 401, name


@pytest.mark.parametrize(
    "head",
    [
        "".join(f"x-{at}: y\r\n" for at in range(5_000)),
        "x: " + "y" * 100_000 + "\r\n",
        "y" * 100_000 + ": x\r\n",
        "cookie: " + "a=b; " * 20_000 + "\r\n",
    ],
    ids=["many", "long value", "long name", "long cookie"],
)
async def test_a_head_without_bounds_is_refused(head: str) -> None:
    """Row 12, vLLM CVE-2025-48956: huge headers."""
    stage = a_stage()
    found = await said(stage, posted(head))
    assert [reply.status for reply in found] in ([431], [400])
    assert not stage.engine.asked


async def test_half_a_million_tiny_chunks_cost_no_more_than_their_bytes() -> None:
    """Row 12, Triton CVE-2025-23310: 3 MB of 6-byte chunks overflowed a stack."""
    stage = a_stage(config=GatewayConfig(body_bytes_max=1_048_576))
    head = posted().partition(b"\r\n\r\n")[0].rpartition(b"\r\n")[0]
    head += b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    began = time.process_time()
    found = await said(stage, head, b"1\r\nx\r\n" * 500_000, b"0\r\n\r\n")
    assert all(reply.status in {400, 413, 431} for reply in found)
    assert time.process_time() - began < 20
    assert not stage.engine.asked


async def test_a_body_in_a_coding_is_not_unpacked() -> None:
    """Row 12 and 14: a decompression bomb is refused as it stands."""
    async with port_of(a_stage()) as port:
        for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"):
            (reply,) = await answers(port, posted(f"Content-Encoding: {coding}\r\n"))
            assert reply.status == 415, coding


@pytest.mark.parametrize(
    "kind",
    [
        *("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain"),
        *("application/x-python-pickle", "application/octet-stream", "application/yaml"),
        *("application/msgpack", "application/x-java-serialized-object", "image/png"),
    ],
)
async def test_no_kind_of_body_but_json_is_read(kind: str) -> None:
    """Rows 12 and 17: no forms, no uploads, nothing that is deserialised into objects."""
    stage = a_stage()
    sent = posted().replace(b"application/json", kind.encode())
    (reply,) = await said(stage, sent)
    assert reply.status == 415
    assert not stage.engine.asked


async def test_ranges_are_passed_over() -> None:
    """Row 12: a Range of many parts: quadratic."""
    ranges = ",".join(f"{at}-{at + 1}" for at in range(0, 10_000, 2))
    for path in ("/openapi.json", "/docs", "/livez", "/docs/static/swagger-ui-bundle.js"):
        began = time.process_time()
        found = await said(
            a_stage(),
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Range: bytes={ranges}\r\n\r\n".encode(),
        )
        assert time.process_time() - began < 5
        assert [reply.status for reply in found] in ([200], [206], [400], [416]), path


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
async def test_nested_json_is_refused(depth: int, opens: str, closes: str) -> None:
    """Row 12: JSON without a bottom."""
    body = b'{"messages":' + (opens * depth + "1" + closes * depth).encode() + b"}"
    (reply,) = await said(a_stage(), posted(body=body))
    assert reply.status == 400


async def test_no_second_request_is_served_out_of_a_first_one() -> None:
    """Row 12, chunk parsing is one of many: request smuggling."""
    stage = a_stage()
    async with port_of(stage) as port:
        for name, sent in hostile_smuggling.corpus(0):
            assert len(await answers(port, sent)) <= 1, name
        second = hostile_smuggling.inner(0)
        await answers(port, second)
    served = [record.id for record in stage.records if record.id.startswith("smuggled")]
    assert served == ["smuggled-0"], "the one that was sent as a request, to see that it shows"
