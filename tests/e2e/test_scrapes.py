"""Other people's metric names on a real server: they say what its clients went through."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.server import Server, serving

WORDS = "one two three four five six"
CHAT = {"messages": [{"role": "user", "content": WORDS}], "max_tokens": 4}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("scrapes")
    with serving(folder, "--engine", "scripted", environment={"METRICS_PATH": "/stats"}) as server:
        model = json.loads(server.get("/v1/models")[1])["data"][0]["id"]
        for stream in (False, True, True):
            assert post(server, "/v1/chat/completions", {"model": model, "stream": stream}) == 200
        assert post(server, "/infer", {"prompt": WORDS, "max_tokens": 4}) == 200
        assert post(server, "/v1/chat/completions", {"model": "nobody"}) == 404
        yield server


def post(server: Server, path: str, body: dict[str, object]) -> int:
    """Ask, read the answer to its end, and return the status."""
    chat = CHAT if path.startswith("/v1/") else {}
    request = urllib.request.Request(
        server.url + path,
        data=json.dumps(chat | body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("http_requests_total", {"handler": "/v1/chat/completions", "status": "2xx"}, 3),
        ("http_requests_total", {"handler": "/v1/chat/completions", "status": "4xx"}, 1),
        ("http_requests_total", {"handler": "/infer", "method": "POST"}, 1),
        ("http_requests_in_progress", {}, 1),
        ("http_request_duration_seconds_count", {"handler": "/infer"}, 1),
        ("api_requests_total", {"endpoint": "/v1/chat/completions", "status": "success"}, 3),
        ("api_requests_total", {"status": "client_error", "model": "unknown"}, 1),
        ("api_response_time_seconds_count", {"endpoint": "/v1/chat/completions"}, 4),
        ("api_request_size_bytes_count", {"endpoint": "/infer"}, 1),
        ("api_response_size_bytes_count", {"endpoint": "/infer"}, 1),
        ("model_load_time_seconds_count", {"version": "default"}, 1),
        ("token_generation_time_seconds_count", {}, 4),
        ("successful_inferences_total", {}, 4),
        ("failed_inferences_total", {"error_type": "unknown_model"}, 1),
        ("llama_requests_total", {}, 5),
        ("llama_request_duration_seconds_count", {}, 5),
        ("llm_generation_latency_seconds_count", {}, 4),
        ("llm_engine_errors_total", {}, 0),
        ("llm_active_requests", {}, 0),
        ("vllm:request_success_total", {"finished_reason": "length"}, 4),
        ("vllm:e2e_request_latency_seconds_count", {}, 4),
        ("vllm:request_prefill_time_seconds_count", {}, 4),
        ("vllm:inter_token_latency_seconds_count", {}, 6),
    ],
)
def test_a_foreign_name_says_what_the_clients_went_through(
    server: Server, name: str, labels: dict[str, str], expected: float
) -> None:
    assert server.metric(name, **labels) == expected


@pytest.mark.parametrize(
    ("alias", "canonical"),
    [
        ("tokens_generated_total", "llm_generation_tokens_total"),
        ("llm_generation_tokens", "llm_generation_tokens_total"),
        ("vllm:generation_tokens_total", "llm_generation_tokens_total"),
        ("vllm:prompt_tokens_total", "llm_prompt_tokens_total"),
        ("vllm:time_to_first_token_seconds_sum", "llm_time_to_first_token_seconds_sum"),
        ("vllm:request_decode_time_seconds_sum", "llm_decode_time_seconds_sum"),
        ("llama_request_duration_seconds_sum", "llm_request_duration_seconds_sum"),
        ("model_load_time_seconds_sum", "llm_model_load_seconds"),
    ],
)
def test_a_foreign_name_has_the_number_of_the_canonical_one(
    server: Server, alias: str, canonical: str
) -> None:
    found = server.metric(canonical)
    assert found > 0
    assert server.metric(alias) == pytest.approx(found)


def test_every_path_serves_the_same_names(server: Server) -> None:
    pages = [server.get(path)[1] for path in ("/metrics", "/prometheus", "/stats")]
    names = [set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)) for page in pages]
    assert names[0] == names[1] == names[2]
    assert len(names[0]) > 100
