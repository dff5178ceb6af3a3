"""Whose web pages may call: by default nobody's, and then exactly those that are named."""

import asyncio
from collections.abc import Mapping

import pytest

from forebay.core.caller import RIGHTS, Caller, Role
from forebay.core.errors import Forbidden
from forebay.gateway.cors import Cors
from forebay.gateway.terms import Terms
from tests.support.gateways import CHAT, Stage, a_stage, keys
from tests.support.listening import listening

PAGE, OTHER = "https://chat.example.org", "https://evil.example"


async def asked(
    stage: Stage, method: str, path: str, *, cors: str = PAGE, **headers: str
) -> tuple[int, Mapping[str, list[str]]]:
    """Return the status and the headers, each with all its lines."""
    stage.gateway.cors = Cors.parse(cors)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    async with listening(stage, terms=Terms(cors=stage.gateway.cors)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        async with asyncio.timeout(5):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
    found: dict[str, list[str]] = {}
    for line in head.split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        found.setdefault(name, []).append(value)
    return int(head.split()[1]), found


def preflight(origin: str = PAGE, method: str = "POST", headers: str = "") -> dict[str, str]:
    asks = {"origin": origin, "access_control_request_method": method}
    return asks | ({"access_control_request_headers": headers} if headers else {})


async def test_by_default_no_page_may_call() -> None:
    status, headers = await asked(a_stage(), "OPTIONS", CHAT, cors="", **preflight())
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]
    status, headers = await asked(a_stage(), "GET", "/v1/models", cors="", origin=PAGE)
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]


async def test_a_page_that_is_named_may_call() -> None:
    wanted = "authorization, content-type, x-stainless-lang, idempotency-key"
    status, headers = await asked(a_stage(), "OPTIONS", CHAT, **preflight(headers=wanted))
    assert status == 204
    assert headers["access-control-allow-origin"] == [PAGE]
    assert headers["access-control-allow-methods"] == ["POST"]
    assert headers["access-control-allow-headers"] == [wanted]
    assert "access-control-allow-credentials" not in headers
    assert "content-length" not in headers
    assert "origin" in headers["vary"]


async def test_answers_and_errors_say_who_may_read_them_and_which_headers() -> None:
    for path, expected in (("/v1/models", 200), ("/v1/nothing", 404)):
        status, headers = await asked(a_stage(), "GET", path, origin=PAGE)
        assert status == expected
        assert headers["access-control-allow-origin"] == [PAGE]
        assert "x-request-id" in headers["access-control-expose-headers"][0]
        assert headers["vary"] == ["origin"]


@pytest.mark.parametrize(
    "origin", [OTHER, "null", f"{PAGE}.evil.example", "https://CHAT.example.org"]
)
async def test_other_pages_may_not(origin: str) -> None:
    status, headers = await asked(a_stage(), "OPTIONS", CHAT, **preflight(origin))
    assert status == 403
    assert "access-control-allow-origin" not in headers
    status, headers = await asked(a_stage(), "GET", "/v1/models", origin=origin)
    assert "access-control-allow-origin" not in headers
    assert headers["vary"] == ["origin"]  # a cache must not show this to the page that may


@pytest.mark.parametrize(
    ("path", "asks"),
    [
        (CHAT, preflight(method="DELETE")),
        (CHAT, preflight(method="GET")),
        (CHAT, preflight(method="post")),
        ("/v1/nothing", preflight()),
        (CHAT, preflight(headers="content-type, cookie")),
        (CHAT, preflight(headers="x-forwarded-for")),
    ],
)
async def test_only_what_the_route_takes_is_allowed(path: str, asks: dict[str, str]) -> None:
    assert (await asked(a_stage(), "OPTIONS", path, **asks))[0] == 403


@pytest.mark.parametrize(
    "text", ["*", "chat.example.org", "https://a.example/", "null", "https://*.example.org"]
)
def test_what_is_no_origin_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no origin") as caught:
        Cors.parse(f"{PAGE}, {text}")
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1:8000", 200),
        ("https://[::1]", 200),
        (PAGE, 200),
        ("http://evil.example:8000", 403),
        ("http://localhost.evil.example", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("null", 403),
    ],
)
async def test_where_nobody_is_asked_who_they_are_no_foreign_page_is_served(
    origin: str, status: int
) -> None:
    assert (await asked(a_stage(), "GET", "/v1/models", origin=origin))[0] == status
    assert (await asked(a_stage(), "GET", "/livez", origin=origin))[0] == 200


async def test_where_callers_show_keys_a_pages_key_is_as_good_as_any() -> None:
    stage = a_stage(credentials=keys({"k": Caller(rights=RIGHTS[Role.USER])}))
    shown = {"origin": OTHER, "authorization": "Bearer k"}
    assert (await asked(stage, "GET", "/v1/models", **shown))[0] == 200


def test_a_page_may_send_its_key_in_the_header_that_the_settings_name() -> None:
    for name, allowed in (("X-Our-Key", True), ("X-API-Key", False)):
        cors = Cors.parse("https://chat.example.org", name)
        asks = {
            b"origin": b"https://chat.example.org",
            b"access-control-request-method": b"POST",
            b"access-control-request-headers": b"X-Our-Key",
        }
        if allowed:
            answer = dict(cors.preflight(asks, ("POST",)) or ())
            assert answer[b"access-control-allow-headers"] == b"x-our-key"
        else:
            with pytest.raises(Forbidden, match="one of these headers"):
                cors.preflight(asks, ("POST",))
