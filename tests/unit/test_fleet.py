"""From what is to be served to what is on offer, its engines, and what metrics read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from forebay import app, fleet
from forebay.core.request import SamplingAdvice
from forebay.engine.supervisor import Supervisor
from forebay.engines.upstream import UpstreamEngine
from forebay.fleet import ServedModel
from forebay.serve.lanes import Lanes
from forebay.serve.model import Model
from forebay.serve.replicas import Replicas
from forebay.serve.residency import Residency
from forebay.serve.versions import Versions
from forebay.settings import EngineConfig, LiveSettings, Settings
from forebay.telemetry.logs import LogConfig
from forebay.telemetry.metrics import Metrics
from tests.support.engines import PuppetEngine
from tests.support.records import a_completed
from tests.unit.telemetry.test_metrics import page, value

ADAPTER = Path("/cache/adapters/0123456789abcdef")
SCRIPTED = Settings(engine=EngineConfig(name="scripted", workers=2))


@dataclass(frozen=True)
class Fleet:
    """Models on offer, and what counts them."""

    residency: Residency
    versions: Versions
    metrics: Metrics

    def model(self, name: str = "m") -> Model:
        found = self.residency.model(name)
        assert found is not None
        return found


@contextmanager
def a_fleet(folder: Path, *models: ServedModel) -> Iterator[Fleet]:
    lanes, metrics = Lanes(), Metrics([model.name for model in models])
    with app.open_log(LogConfig(destination=str(folder / "log"))) as log:
        live = LiveSettings(SCRIPTED)
        residency = fleet.opened(live, models, lanes=lanes, metrics=metrics, log=log)
        versions = fleet.versioned(SCRIPTED, residency, lanes=lanes, metrics=metrics, log=log)
        yield Fleet(residency, versions, metrics)


def test_a_model_is_on_offer_with_all_that_was_said_of_it(tmp_path: Path) -> None:
    advice = SamplingAdvice(temperature=0.5)
    served = ServedModel(
        name="m",
        folder=Path("/models/m"),
        advice=advice,
        aliases=("gpt",),
        adapters={"v2": ADAPTER},
        description="Speaks.",
        bytes_needed=7,
        preload=False,
        pinned=True,
    )
    with a_fleet(tmp_path, served, ServedModel(name="usual")) as found:
        model, usual = found.model(), found.model("usual")
    assert (model.folder, model.advice, model.bytes_needed) == (Path("/models/m"), advice, 7)
    assert (model.preload, model.pinned, model.remote) == (False, True, False)
    assert (usual.preload, usual.pinned) == (True, False)
    listing = model.listing
    assert (listing.aliases, listing.description) == (("gpt",), "Speaks.")
    assert (listing.engine, listing.versions) == ("scripted", {"v2": "v2@01234567"})
    assert model.adapters == {"v2@01234567": ADAPTER}


def test_a_models_workers_are_told_its_folder_its_adapters_and_its_own_settings(
    tmp_path: Path,
) -> None:
    served = ServedModel(name="m", folder=tmp_path, options={"decode_s": 0.5}, workers=3)
    with a_fleet(tmp_path, served, ServedModel(name="usual")) as found:
        engine, usual = (found.model(name).make({"v2@1": ADAPTER}) for name in ("m", "usual"))
    assert isinstance(engine, Replicas)
    assert isinstance(usual, Replicas)
    assert (len(engine.workers), len(usual.workers)) == (3, 2)
    for worker in engine.workers:
        assert isinstance(worker, Supervisor)
        spec = worker._spec
        assert (spec.engine, spec.model, spec.adapters) == ("scripted", tmp_path, {"v2@1": ADAPTER})
        assert spec.options["decode_s"] == 0.5


def test_a_model_elsewhere_is_asked_as_its_own_settings_say(tmp_path: Path) -> None:
    options = {"urls": "http://127.0.0.1:9/v1", "model": "theirs"}
    with a_fleet(tmp_path, ServedModel(name="m", engine="upstream", options=options)) as found:
        model = found.model()
        engine = model.make({})
    assert model.remote
    assert isinstance(engine, UpstreamEngine)
    assert engine._config.model == "theirs"


async def test_metrics_read_the_lane_of_a_model_for_as_long_as_it_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_engine", lambda *_, **__: PuppetEngine())
    with a_fleet(tmp_path, ServedModel(name="m")) as found:
        await found.residency.load("m")
        assert value(found.metrics, "llm_requests_running", model="m") == 0
        await found.residency.unload("m")
        assert "llm_requests_running{" not in page(found.metrics)


async def test_a_version_that_comes_later_is_counted_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_take_in", lambda *_: ADAPTER)
    with a_fleet(tmp_path, ServedModel(name="m", folder=tmp_path)) as found:
        await found.versions.add("m", "v2", "file:/adapter")
        found.metrics(a_completed(model="m:v2"))
        labels = {"route": "chat_completions", "model": "m:v2", "outcome": "ok"}
        assert value(found.metrics, "llm_requests_total", **labels) == 1


def test_tokens_made_in_vain_are_counted_for_their_model(tmp_path: Path) -> None:
    with a_fleet(tmp_path, ServedModel(name="m")) as found:
        engine = found.model().make({})
        assert isinstance(engine, Replicas)
        crew = engine.workers[0].crew
        assert crew is not None
        crew.freed(0.1, "decode", tokens=5)
        assert value(found.metrics, "llm_wasted_tokens_total", model="m", phase="decode") == 5
