import importlib.util
from typing import Any

import pytest

from forebay.settings import Sources, load
from forebay.telemetry.otlp_config import (
    OtlpMetricsConfig,
    TracesConfig,
    headers_of,
    misfits,
)


def wrong(metrics: OtlpMetricsConfig | None = None, **traces: Any) -> dict[str, str]:
    return dict(misfits(TracesConfig(**traces), metrics or OtlpMetricsConfig()))


def test_headers_are_read_as_opentelemetry_writes_them() -> None:
    assert headers_of("") == {}
    found = headers_of(" Authorization=Bearer%20a=b , x-scope=one,")
    assert found == {"authorization": "Bearer a=b", "x-scope": "one"}


def test_headers_may_hold_a_key_and_are_never_shown() -> None:
    loaded = load(Sources(assignments=("traces.headers=authorization=hunter2",)))
    assert loaded.settings.traces.headers == "authorization=hunter2"
    assert "hunter2" not in repr(loaded.settings)
    shown = [each.shown for each in loaded.effective if each.setting.key == "traces.headers"]
    assert shown == ["***"]


@pytest.mark.parametrize(
    "text", ["hidden", "=hidden", "a b=hidden", "a:=hidden", "a=hidden%0d%0ax: y", "a=hidd%C3%A9n"]
)
def test_what_is_no_header_stops_the_start_and_is_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="header"):
        headers_of(text)
    said = wrong(headers=text)["traces.headers"]
    assert "***" in said
    assert "hidd" not in said


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:4318", "ftp://h", "http://", "http://h:99999", "http://u:p@h", "http://h?x=1"],
)
def test_an_endpoint_is_an_address(endpoint: str) -> None:
    assert "traces.endpoint" in wrong(endpoint=endpoint)
    metrics = OtlpMetricsConfig(endpoint=endpoint, period_s=1.0)
    assert "otlp_metrics.endpoint" in wrong(metrics)


def test_what_is_right_is_let_pass() -> None:
    assert wrong() == {}
    assert wrong(endpoint="http://127.0.0.1:4318", headers="a=b") == {}
    assert wrong(endpoint="https://collector.example/otlp", protocol="grpc") == {}
    assert wrong(OtlpMetricsConfig(endpoint="http://h:4318", period_s=10.0)) == {}


def test_metrics_need_somewhere_to_go() -> None:
    assert "otlp_metrics.period_s" in wrong(OtlpMetricsConfig(period_s=10.0))


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = "opentelemetry.exporter.otlp.proto.grpc"
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == missing else find(name),
    )
    said = wrong(endpoint="http://h:4317", protocol="grpc")
    assert "pip install 'forebay[otlp-grpc]'" in said["traces.protocol"]
    missing = "opentelemetry.exporter.otlp.proto.http"
    said = wrong(endpoint="http://h:4318")
    assert "pip install 'forebay[otlp]'" in said["traces.endpoint"]
    assert wrong() == {}


def test_answers_are_kept_only_where_they_are_told() -> None:
    assert TracesConfig(content=True).said_characters_max == 0
    assert TracesConfig(endpoint="http://h").said_characters_max == 0
    assert TracesConfig(endpoint="http://h", content=True).said_characters_max == 4_096
