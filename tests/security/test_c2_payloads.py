"""Rows 7, 13, 14, 15 and 17: templates, addresses, binaries, internal names, and orders to run."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from forebay.drill.hostile_case import Case, Kind
from forebay.drill.hostile_reply import Reply, faults
from forebay.gateway.documents import openapi
from tests.support.asgi import ask
from tests.support.gateways import CHAT, a_stage, chat
from tests.support.talk import a_trap

TEMPLATE = "{{ ''.__class__.__mro__ }}{{ 7 * 7 }}"


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template": TEMPLATE},
        {"chat_template_kwargs": {"x": TEMPLATE}},
        {"documents": [{"text": TEMPLATE}]},
        {"add_generation_prompt": False},
        {"chat_template": None, "tokenizer": "hf:evil/tokenizer"},
    ],
)
async def test_no_request_brings_a_template_or_what_one_is_called_with(
    fields: dict[str, Any],
) -> None:
    """Row 7, CVE-2026-5760 and vLLM's chat_template_kwargs."""
    stage = a_stage()
    answer = await stage.chat(**fields)
    assert answer.status == 400
    assert not stage.engine.asked


def addressed(url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield requests with an address wherever other servers take one."""
    image = {"type": "image_url", "image_url": {"url": url}}
    for part in (
        image,
        {"type": "image_url", "image_url": url},
        {"type": "input_image", "image_url": url},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "file", "file": {"file_url": url}},
        {"type": "text", "text": "x", "image_url": {"url": url}},
    ):
        yield CHAT, chat(messages=[{"role": "user", "content": [part]}])
        yield "/v1/responses", {"model": "m", "input": [{"role": "user", "content": [part]}]}
    for name in ("webhook", "callback_url", "metadata", "user", "base_url", "tokenizer", "adapter"):
        yield CHAT, chat(**{name: url})
        yield "/v1/responses", {"model": "m", "input": "x", name: url}
        yield "/generate", {"prompt": "x", name: url}
    schema = {"type": "object", "$schema": url, "$ref": url}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    yield CHAT, chat(response_format=form)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": url}}}
    yield CHAT, chat(tools=[tool])
    yield (
        "/v1/responses",
        {"model": "m", "input": "x", "tools": [{"type": "mcp", "server_url": url}]},
    )
    yield "/v1/embeddings", {"model": "m", "input": [url]}
    yield CHAT, chat(model=url)
    yield "/generate", {"prompt": url, "model": url}


async def test_no_address_in_a_request_is_followed() -> None:
    """Row 13, SSRF (CVE-2026-33626): there is nothing in the server that fetches for a client."""
    async with a_trap() as (url, came):
        for path, body in addressed(url):
            stage = a_stage()
            await ask(stage.gateway, "POST", path, body, referer=url, x_forwarded_host=url)
        assert not came


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_embeds": "AAAA"},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": "data:,x"}]}
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "x"}}]}]},
        {"mm_processor_kwargs": {}},
        {"audio": {"voice": "x", "format": "wav"}},
        {"modalities": ["audio"]},
    ],
)
async def test_binary_payloads_are_not_taken(fields: dict[str, Any]) -> None:
    """Row 14, CVE-2026-22773 and -22778: there is no decoder of images, sound or tensors."""
    stage = a_stage()
    answer = await stage.chat(**fields)
    assert answer.status == 400
    assert not stage.engine.asked


INTERNAL = (
    "/usr/lib/python3/site-packages/x.py: <object at 0x7f00deadbeef> psm_4f2a /tmp/forebay-x/worker"
)


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, OSError, MemoryError, RecursionError])
@pytest.mark.parametrize("path", [CHAT, "/generate", "/generate_stream", "/v1/responses"])
async def test_a_defect_tells_nothing_of_the_inside(kind: type[Exception], path: str) -> None:
    """Rows 14 and 15, CVE-2025-23320: an error's text is fixed, whatever went wrong."""
    stage = a_stage([kind(INTERNAL)])
    body = {"prompt": "x", "input": "x", "messages": chat()["messages"], "model": "m"}
    wanted = {CHAT: {"messages"}, "/v1/responses": {"input"}}.get(path, {"prompt"}) | {"model"}
    answer = await ask(stage.gateway, "POST", path, {k: body[k] for k in body.keys() & wanted})
    told = answer.content.decode()
    assert "fault is its own" in told or "failed" in told
    for word in ("0x7f", "site-packages", "psm_", "forebay-x", "Error", "Traceback"):
        assert word not in told
    reply = Reply(status=answer.status, headers=answer.headers, body=answer.content)
    found = list(faults(Case(number=0, kind=Kind.RAW, sent=b""), [reply], closed=False))
    assert all("undeliberate" in fault or answer.status == 200 for fault in found)
    logged = json.dumps(stage.events)
    assert INTERNAL not in logged, "the message may hold what a client sent"


def test_there_is_no_route_for_files_code_or_requests_to_be_run() -> None:
    """Row 17: nothing is uploaded, deserialised or submitted; row 4: nothing for developers."""
    words = (
        *("upload", "files", "file", "submit", "jobs", "pickle", "exec", "eval", "invocations"),
        *("collective_rpc", "update_weights", "pause", "sleep", "debug", "pprof", "shell", "proxy"),
        *("rpc", "import", "fetch", "webhook", "tasks", "batches", "fine_tuning", "plugins"),
    )
    paths = openapi(["m"])["paths"]
    assert not [path for path in paths if set(path.split("/")) & set(words)]


async def test_nothing_that_developers_leave_open_answers() -> None:
    for path in (
        *(
            "/invocations",
            "/pause",
            "/collective_rpc",
            "/update_weights",
            "/debug/pprof",
            "/tokenize",
        ),
        *("/api/jobs/", "/wake_up", "/start_profile", "/server_info", "/reset_prefix_cache"),
        *(
            "/v1/load_lora_adapter",
            "/v1/files",
            "/api/pull",
            "/slots",
            "/props",
            "/.env",
            "/.git/config",
        ),
    ):
        for method in ("GET", "POST", "PUT"):
            answer = await ask(a_stage(local=True).gateway, method, path, {})
            assert answer.status == 404, path
