"""The source documents' own clients against a whole server: their curl lines, their Python."""

import asyncio
import contextlib
import importlib
import io
import json
import re
import shlex
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import pytest

from tests.support.server import Server, serving

WRITTEN_FOR: Final = re.compile(r"http://localhost(:8000)?(?=/)")
"""Where the documents' clients look for the server."""

GENERATE_S0: Final = """
curl -X POST http://localhost/generate \\
  -H "Content-Type: application/json" \\
  -d '{"prompt": "Once upon a time", "max_new_tokens": 20}'
"""
INFER_S1: Final = """\
POST /infer
Content-Type: application/json
X-API-Key: your-api-key

{
  "prompt": "What is the capital of France?",
  "max_new_tokens": 32,
  "adapter_version": "v1.0",
  "base_model": "microsoft/DialoGPT-medium"
}
"""
STREAM_S2: Final = """
{
  "prompt": "The future of artificial intelligence is",
  "max_tokens": 100,
  "temperature": 0.7,
  "top_p": 0.9,
  "do_sample": true
}
"""
CLIENT_S2: Final = """
import aiohttp
import json

async def stream_generate(prompt: str):
    url = "http://localhost:8000/generate_stream"
    request_data = {
        "prompt": prompt,
        "max_tokens": 100,
        "temperature": 0.7
    }

    async with aiohttp.ClientSession() as session:
        async with session.post(url, json=request_data) as response:
            async for line in response.content:
                line = line.decode('utf-8').strip()
                if line.startswith('data: '):
                    data = json.loads(line[6:])
                    token = data.get("token", "")
                    print(token, end="", flush=True)

                    if data.get("finished"):
                        break
"""
CHAT_S3: Final = """
curl -X POST http://localhost:8000/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "messages": [
      {"role": "user", "content": "Hello! Tell me about distributed systems."}
    ],
    "temperature": 0.7,
    "max_tokens": 150
  }'
"""
CHAT_STREAM_S3: Final = """
curl -X POST http://localhost:8000/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "messages": [
      {"role": "user", "content": "Explain Docker in simple terms"}
    ],
    "stream": true,
    "max_tokens": 200
  }'
"""
CLIENT_S3: Final = """
import httpx
import asyncio

async def test_chat():
    async with httpx.AsyncClient() as client:
        response = await client.post(
            "http://localhost:8000/v1/chat/completions",
            json={
                "messages": [
                    {"role": "user", "content": "What is FastAPI?"}
                ],
                "temperature": 0.7,
                "max_tokens": 100
            }
        )
        print(response.json())

asyncio.run(test_chat())
"""
GENERATE_S4: Final = """
curl -X POST "http://localhost:8000/generate" \\
  -H "Authorization: Bearer YOUR_JWT_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{"prompt": "The future of AI is", "max_tokens": 50}'
"""
READS: Final = [
    "curl http://localhost/health",
    "curl http://localhost:8000/health",
    "curl http://localhost:8000/status",
    "curl http://localhost:8000/prometheus",
    "curl http://localhost:8000/models",
    "curl http://localhost:8000/metrics",
    "curl http://localhost:8000/docs",
    "curl http://localhost:8000/model/info",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("documents")
    with serving(folder, "--engine", "scripted") as server:
        yield server


def curled(server: Server, line: str) -> tuple[int, str]:
    """Send what a curl line says; return status and body."""
    words = iter(shlex.split(line.replace("\\\n", " "))[1:])
    method, url, body, headers = "GET", "", None, {}
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d":
                body = next(words).encode()
            case _:
                url = WRITTEN_FOR.sub(server.url, word)
    return sent(urllib.request.Request(url, body, headers, method=method))


def sent(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def module(source: str, server: Server, **names: Any) -> ModuleType:
    """Run a document's program against this server; a module of what it defines."""
    made = ModuleType("document")
    made.__dict__.update(names)
    code = compile(WRITTEN_FOR.sub(server.url, source), "document", "exec")
    exec(code, made.__dict__)  # noqa: S102 - it is what a reader of the document runs
    return made


def test_s0_generate(server: Server) -> None:
    status, body = curled(server, GENERATE_S0)
    assert status == 200
    assert json.loads(body)["text"] == "Once upon a time "


def test_s1_infer(server: Server) -> None:
    head, _, body = INFER_S1.partition("\n\n")
    line, *headers = head.splitlines()
    method, path = line.split()
    asked = json.loads(body) | {"base_model": "scripted", "adapter_version": "default"}
    request = urllib.request.Request(
        server.url + path,
        json.dumps(asked).encode(),
        dict(header.split(": ") for header in headers),
        method=method,
    )
    status, answer = sent(request)
    assert status == 200
    found = json.loads(answer)
    assert found["result"] == "What is the capital of France? "
    metadata = found["metadata"]
    assert (metadata["model"], metadata["version"]) == ("scripted", "default")
    assert metadata["tokens_generated"] == 8  # a token is up to seven letters
    assert 0 < metadata["generation_time"] <= metadata["response_time"]


def test_s1_infer_of_a_model_that_is_not_here(server: Server) -> None:
    body = INFER_S1.partition("\n\n")[2].encode()
    headers = {"Content-Type": "application/json", "X-API-Key": "your-api-key"}
    status, answer = sent(urllib.request.Request(server.url + "/infer", body, headers))
    assert status == 404
    assert "Served: scripted" in json.loads(answer)["detail"]


def test_s2_stream_request(server: Server) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url + "/generate_stream", STREAM_S2.encode(), headers)
    status, answer = sent(request)
    assert status == 200
    events = [json.loads(event.removeprefix("data: ")) for event in answer.split("\n\n") if event]
    assert all(set(event) == {"token", "text", "finished", "metrics"} for event in events)
    assert [event["finished"] for event in events] == [False] * (len(events) - 1) + [True]
    assert "".join(event["token"] for event in events) == events[-1]["text"]
    assert events[-1]["text"] == "The future of artificial intelligence is "
    assert all(event["metrics"]["ttft"] > 0 for event in events)
    assert events[-1]["metrics"]["tpot"] > 0


def test_s2_aiohttp_client(server: Server) -> None:
    before = server.metric("llm_requests_total", route="generate_stream", outcome="ok")
    program = module(CLIENT_S2, server)
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        asyncio.run(program.stream_generate("The future of AI is bright"))
    assert written.getvalue() == "The future of AI is bright "
    after = server.metric("llm_requests_total", route="generate_stream", outcome="ok")
    assert after == before + 1  # it stops reading at the end, and is no client that left


def test_s2_batch_of_each_size(server: Server) -> None:
    for size in (1, 4, 8, 16, 32):
        prompts = [f"The future of AI is {number}" for number in range(size)]
        body = json.dumps({"prompts": prompts, "max_tokens": 128}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(server.url + "/generate_batch", body, headers)
        status, answer = sent(request)
        assert status == 200
        texts = [result["text"] for result in json.loads(answer)["results"]]
        assert texts == [prompt + " " for prompt in prompts]


def test_s3_chat(server: Server) -> None:
    status, body = curled(server, CHAT_S3)
    assert status == 200
    said = json.loads(body)["choices"][0]["message"]["content"]
    assert said == "Hello! Tell me about distributed systems. "


def test_s3_chat_streaming(server: Server) -> None:
    status, body = curled(server, CHAT_STREAM_S3)
    assert status == 200
    assert body.endswith("data: [DONE]\n\n")


def test_s3_httpx_client(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("httpx") is None:
        if find_spec("httpx2") is None:
            pytest.skip("httpx is not installed")
        monkeypatch.setitem(sys.modules, "httpx", importlib.import_module("httpx2"))
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        module(CLIENT_S3, server)
    assert "'content': 'What is FastAPI? '" in written.getvalue()


def test_s4_generate(server: Server) -> None:
    status, body = curled(server, GENERATE_S4)
    assert status == 200
    assert json.loads(body)["text"] == "The future of AI is "


@pytest.mark.parametrize("line", READS, ids=[line.rpartition("/")[2] for line in READS])
def test_whatever_they_read_is_there(server: Server, line: str) -> None:
    status, body = curled(server, line)
    assert status == 200
    assert body


def test_s1_health_and_status(server: Server) -> None:
    health = json.loads(curled(server, READS[1])[1])
    assert health["status"] == "ok"
    assert health["timestamp"] > 1_700_000_000
    status = json.loads(curled(server, READS[2])[1])
    assert status["status"] == "healthy"
    assert {"service", "version", "timestamp", "device", "cached_model_info"} <= set(status)
    assert (status["prometheus_available"], status["cached_models"]) == (True, 1)
    assert status["cached_model_info"][0]["loaded"] is True


def test_after_all_of_it_the_books_balance(server: Server) -> None:
    status, body = server.get("/admin/ledger")
    assert status == 200
    page = json.loads(body)
    assert (page["balanced"], page["in_flight"], page["held"]) == (True, 0, {})
