"""The source documents' variables set what they meant there."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli.main import app as command_line
from forebay.engine import registry
from forebay.settings import ConfigurationError, Loaded, Sources, load
from forebay.settings.aliases import ALIASES
from forebay.settings.loading import BY_DEFAULT


def loaded(**environ: str) -> Loaded:
    return load(Sources(environ=environ))


def set_by(found: Loaded) -> dict[str, str]:
    return {each.setting.key: each.set_by for each in found.effective if each.set_by != BY_DEFAULT}


def test_enable_backpressure_false_refuses_nobody_by_forecast_and_stays_bounded() -> None:
    admission = loaded(ENABLE_BACKPRESSURE="false").settings.admission
    assert not admission.forecast
    assert admission.waiting_max > 0
    assert loaded(ENABLE_BACKPRESSURE="true").settings.admission.forecast


def test_queue_capacity_is_how_many_may_wait() -> None:
    assert loaded(QUEUE_CAPACITY="50").settings.admission.waiting_max == 50


def test_max_concurrent_requests_is_how_many_run_beside_the_queue() -> None:
    # The source document sets it to 5 beside a QUEUE_CAPACITY of 50.
    assert loaded(MAX_CONCURRENT_REQUESTS="5").settings.admission.running_max == 5


def test_two_aliases_of_one_setting_that_differ_stop_the_start() -> None:
    with pytest.raises(ConfigurationError, match="MAX_CONCURRENT_REQUESTS says otherwise"):
        loaded(MAX_CONCURRENT_REQUESTS="5", MAX_CONCURRENT_GENERATIONS="4")
    assert loaded(MAX_CONCURRENT_REQUESTS="4", MAX_CONCURRENT_GENERATIONS="4")


def test_max_concurrent_generations_is_how_many_sequences_run() -> None:
    assert loaded(MAX_CONCURRENT_GENERATIONS="4").settings.admission.running_max == 4


@pytest.mark.parametrize(
    ("engine", "option"), [("scripted", "running_max"), ("openvino", "sequences_running_max")]
)
def test_max_batch_size_is_the_batch_of_whichever_engine_runs(engine: str, option: str) -> None:
    assert loaded(MAX_BATCH_SIZE="8").settings.engine_options(engine)[option] == 8


def test_max_batch_size_passes_over_an_engine_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "names", lambda: ["scripted"])
    assert set_by(loaded(MAX_BATCH_SIZE="8")) == {"scripted.running_max": "MAX_BATCH_SIZE"}


def test_an_alias_is_stronger_than_the_file_and_weaker_than_the_settings_own_variable(
    tmp_path: Path,
) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text("admission: {waiting_max: 1}\n")
    environ = {"QUEUE_CAPACITY": "2"}
    found = load(Sources(file=file, environ=environ))
    assert found.settings.admission.waiting_max == 2
    environ["FOREBAY_ADMISSION__WAITING_MAX"] = "3"
    found = load(Sources(file=file, environ=environ))
    assert found.settings.admission.waiting_max == 3
    assert set_by(found) == {"admission.waiting_max": "FOREBAY_ADMISSION__WAITING_MAX"}


def test_an_alias_that_is_set_to_nothing_is_not_set() -> None:
    assert set_by(loaded(**dict.fromkeys(ALIASES, " "))) == {}


@pytest.mark.parametrize("value", ["-1", "many", "1e9"])
def test_a_value_that_does_not_fit_names_the_alias(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^QUEUE_CAPACITY: admission\.waiting_max must"):
        loaded(QUEUE_CAPACITY=value)


def test_the_configuration_names_the_alias_as_the_origin() -> None:
    shown = CliRunner().invoke(command_line, ["config"], env={"QUEUE_CAPACITY": "50"}).output
    (line,) = (line for line in shown.splitlines() if line.startswith("admission.waiting_max "))
    assert line.split()[1:] == ["50", "QUEUE_CAPACITY"]


def test_prometheus_enabled_false_serves_no_metrics() -> None:
    assert loaded(PROMETHEUS_ENABLED="false").settings.metrics.paths == ()
    assert loaded(PROMETHEUS_ENABLED="true").settings.metrics.enabled


def test_metrics_path_is_one_more_path_of_the_metrics() -> None:
    paths = loaded(METRICS_PATH="/stats").settings.metrics.paths
    assert paths == ("/metrics", "/prometheus", "/stats")
    # The second source document sets it to a path that serves them anyway.
    assert loaded(METRICS_PATH="/prometheus").settings.metrics.paths == ("/metrics", "/prometheus")
