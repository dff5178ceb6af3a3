"""What is read with GET: models, capabilities, probes, metrics, documents."""

import json
import re
import time
from dataclasses import replace

import pytest

from forebay import __version__
from forebay.core.errors import Outcome
from forebay.engine.protocol import Feature
from forebay.gateway.native_parameters import NATIVE
from forebay.gateway.routing import PathTaken
from forebay.serve.lifecycle import State
from forebay.telemetry.config import MetricsConfig
from tests.support.asgi import ask
from tests.support.gateways import a_stage


async def test_models_are_listed_as_openai_lists_them() -> None:
    answer = await a_stage().get("/v1/models")
    assert answer.json == {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "forebay"}],
    }


async def test_a_model_may_have_slashes_in_its_name() -> None:
    answer = await a_stage(model="org/m").get("/v1/models/org/m")
    assert answer.json["id"] == "org/m"


async def test_an_unknown_model_is_a_404_in_openais_shape() -> None:
    stage = a_stage()
    answer = await stage.get("/v1/models/other")
    assert answer.status == 404
    assert answer.json["error"]["code"] == "model_not_found"
    assert stage.record.outcome is Outcome.UNKNOWN_MODEL


async def test_capabilities_say_what_is_honoured_refused_and_warned_of() -> None:
    stage = a_stage(supports=frozenset(Feature) - {Feature.TOP_K, Feature.TOOLS})
    answer = await stage.get("/v1/capabilities")
    assert answer.status == 200, stage.events
    models = answer.json["models"]
    chat = models["m"]["endpoints"]["/v1/chat/completions"]
    assert chat["temperature"]["verdict"] == "honoured"
    assert chat["temperature"]["bounds"] == {"minimum": 0, "maximum": 2}
    assert chat["top_k"]["verdict"] == "refused"
    assert chat["tools"]["verdict"] == "refused"
    assert chat["user"]["verdict"] == "warned"
    assert chat["max_tokens"]["bounds"] == {"minimum": 1, "maximum": 1_000}
    assert chat["n"]["bounds"] == {"minimum": 1, "maximum": 16}


@pytest.mark.parametrize(
    ("state", "live", "ready", "started"),
    [
        (State.STARTING, 200, 503, 503),
        (State.READY, 200, 200, 200),
        (State.DRAINING, 200, 503, 200),
    ],
)
async def test_probes_follow_the_life_of_the_server(
    state: State, live: int, ready: int, started: int
) -> None:
    stage = a_stage(state=state)
    paths = ("/livez", "/readyz", "/startupz", "/health")
    found = [(await stage.get(path)).status for path in paths]
    assert found == [live, ready, started, ready]
    assert stage.records == []


async def test_readiness_says_why_not() -> None:
    answer = await a_stage(state=State.DRAINING).get("/readyz")
    assert answer.json == {"status": "draining: the server is stopping"}


async def test_health_shows_the_load_of_each_model() -> None:
    body = (await a_stage().get("/health")).json
    assert body.pop("timestamp") == pytest.approx(time.time(), abs=60)
    assert body == {
        "status": "ok",
        "version": __version__,
        "present": 0,
        "models": [{"id": "m", "running": 0, "waiting": 0}],
    }


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/models"])
async def test_head_is_get_without_its_body(path: str) -> None:
    stage = a_stage()
    get, head = await stage.get(path), await ask(stage.gateway, "HEAD", path)
    assert head.status == get.status
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))


@pytest.mark.parametrize("path", ["/metrics", "/prometheus"])
async def test_metrics_are_written_as_the_scraper_accepts_them(path: str) -> None:
    answer = await a_stage().get(path, accept="application/openmetrics-text")
    assert answer.content == b"# accept application/openmetrics-text\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"


async def test_the_documents_page_loads_nothing_from_elsewhere() -> None:
    stage = a_stage()
    page = (await stage.get("/docs")).content.decode()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    for path in loaded:
        assert path.startswith("/")
        answer = await stage.get(path)
        assert answer.status == 200
        assert answer.content
    assert "http://" not in page
    assert "https://" not in page


async def test_the_openapi_document_describes_every_path_and_resolves() -> None:
    stage = a_stage()
    answer = await stage.get("/openapi.json")
    document = answer.json
    assert document["openapi"].startswith("3.1")
    names = set(document["components"]["schemas"])
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert name in names
    example = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]
    assert example["application/json"]["example"]["model"] == "m"


async def test_the_examples_of_the_document_work() -> None:
    stage = a_stage()
    document = (await stage.get("/openapi.json")).json
    for path in ("/v1/chat/completions", "/v1/completions", *NATIVE):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        answer = await ask(stage.gateway, "POST", path, content["application/json"]["example"])
        assert answer.status == 200


async def test_a_servers_lifespan_is_gone_along_with() -> None:
    inbox = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive() -> dict[str, str]:
        return inbox.pop(0)

    async def send(message: object) -> None:
        sent.append(message)

    await a_stage().gateway({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


async def test_websockets_are_turned_away() -> None:
    sent = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    await a_stage().gateway({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("path", ["/metrics", "/prometheus", "/stats"])
async def test_metrics_are_served_at_every_path_that_the_settings_name(path: str) -> None:
    gateway = replace(a_stage().gateway, metrics_paths=MetricsConfig(path="/stats").paths)
    answer = await ask(gateway, "GET", path)
    assert answer.status == 200
    assert answer.content.startswith(b"# accept")


@pytest.mark.parametrize("path", ["/metrics", "/prometheus"])
async def test_metrics_that_are_switched_off_are_nowhere(path: str) -> None:
    gateway = replace(a_stage().gateway, metrics_paths=MetricsConfig(enabled=False).paths)
    assert (await ask(gateway, "GET", path)).status == 404


@pytest.mark.parametrize("path", ["/health", "/v1/models/m", "/v1/chat/completions"])
def test_a_path_that_is_taken_cannot_be_that_of_the_metrics(path: str) -> None:
    with pytest.raises(PathTaken, match=path):
        replace(a_stage().gateway, metrics_paths=MetricsConfig(path=path).paths)
