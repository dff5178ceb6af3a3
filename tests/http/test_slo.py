"""`GET /admin/slo`: the server's own word on its error budgets."""

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from forebay.core.caller import Caller, Right
from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError, Overloaded
from forebay.core.record import Hook
from forebay.gateway.slo_page import SLO_PATH, slo_endpoint
from forebay.serve.objectives import Objectives
from forebay.serve.slo_file import built_in
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.readings import ServerReading
from tests.support.asgi import Exchange, ask
from tests.support.gateways import Stage, a_stage, chat, keys, said

OPERATOR = Caller(tenant="ops", user="root", rights=frozenset(Right))
READER = Caller(tenant="acme", user="ada", rights=frozenset({Right.INFER, Right.READ}))


def watched(stage: Stage) -> tuple[Stage, Objectives]:
    """Let a stage count what objectives make of its requests, as `observing.py` does."""
    gateway, objectives = stage.gateway, Objectives(built_in(), MONOTONIC)
    hooks: tuple[Hook, ...] = (*gateway.hooks, objectives)
    gateway.hooks = hooks
    gateway.pipeline = replace(gateway.pipeline, hooks=hooks)  # type: ignore[type-var]  # it is one
    gateway.extra = {SLO_PATH: slo_endpoint(objectives, MONOTONIC)}
    gateway.reconfigure(gateway.config, gateway.cache)
    return stage, objectives


async def page(stage: Stage) -> Exchange:
    return await stage.get(SLO_PATH, host="localhost:8000")


async def test_a_server_that_nobody_asked_has_its_whole_budget() -> None:
    stage, _ = watched(a_stage(local=True))
    told = (await page(stage)).json
    assert told["service"] == "forebay"
    assert told["window_s"] == 2_592_000
    assert told["scope"] == "this process, since its start"
    assert len(told["objectives"]) == len(built_in().goals)
    assert {each["budget_left"] for each in told["objectives"]} == {1.0}


async def test_each_request_is_in_the_objectives_that_count_it() -> None:
    stage, objectives = watched(a_stage(local=True))
    await stage.chat(stream=True)
    await stage.chat(model="unknown")
    stage.engine.acts = [*said("Hello")[:2], EngineError("It broke.")]
    await stage.chat(stream=True)
    stage.engine.acts = [Overloaded("Full.", retry_after_s=1.0)]
    await ask(stage.gateway, "POST", "/v1/chat/completions", b"{}")
    await stage.chat()
    found = {each["name"]: each for each in (await page(stage)).json["objectives"]}
    counted = {name: (each["good"], each["bad"]) for name, each in found.items()}
    assert counted == {
        "availability_interactive": (1, 2),
        "availability_batch": (0, 0),
        "ttft_interactive": (2, 0),
        "ttft_batch": (0, 0),
        "tpot_interactive": (1, 0),
        "tpot_batch": (0, 0),
        "stream_completeness": (1, 1),
    }
    assert found["availability_interactive"]["budget_left"] < 0
    assert objectives.counts["stream_completeness", "bad"] == 1


async def test_it_says_which_alerts_burn() -> None:
    stage, _ = watched(a_stage([EngineError("It broke.")], local=True))
    for _ in range(5):
        await stage.chat()
    found = {each["name"]: each for each in (await page(stage)).json["objectives"]}
    served = found["availability_interactive"]
    assert served["burning"] == ["ErrorBudgetBurnFast", "ErrorBudgetBurn", "ErrorBudgetBurnSlow"]
    assert served["windows"][0] == {"window_s": 300, "good": 0, "bad": 5, "burn": 200.0}
    assert found["ttft_interactive"]["burning"] == []
    assert served["class"] == "interactive"


async def test_only_an_operator_is_told() -> None:
    stage, _ = watched(a_stage(credentials=keys({"root": OPERATOR, "ada": READER})))
    for key, status in (("", 401), ("ada", 403), ("root", 200)):
        shown = {"authorization": f"Bearer {key}"} if key else {}
        assert (await ask(stage.gateway, "GET", SLO_PATH, **shown)).status == status


async def test_the_page_and_the_metrics_agree_to_the_last_event() -> None:
    stage, objectives = watched(a_stage(local=True))
    metrics = Metrics(models=["m"])
    metrics.watch_server(lambda: ServerReading(slo=objectives.counts))
    endings = (said("Hello", " world"), [Overloaded("Full.")], [*said("x")[:2], EngineError("No.")])
    for number in range(30):
        stage.engine.acts = list(endings[number % len(endings)])
        headers = {"x_priority": "batch"} if number % 2 else {}
        body = chat(stream=number % 5 == 0)
        await ask(stage.gateway, "POST", "/v1/chat/completions", body, **headers)
        told = (await page(stage)).json["objectives"]
        _, text = metrics.exposition("")
        counted = {
            (each["name"], result): float(each[result])
            for each in told
            for result in ("good", "bad")
        }
        assert _scraped(text.decode()) == counted
    assert sum(counted.values()) > 50


def _scraped(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["slo"], sample.labels["result"]): sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "llm_slo_events"
        for sample in family.samples
    }
