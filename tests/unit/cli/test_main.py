import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

import pytest
from typer.testing import CliRunner

from forebay import __version__, process
from forebay.app import Service, StartRefused
from forebay.cli.main import app as command_line
from forebay.cli.reference import cli_page
from forebay.core.clock import MONOTONIC
from forebay.engine.protocol import EngineInfo
from forebay.fleet import ServedModel
from forebay.models.catalogue import DEFAULT
from forebay.models.stages import PreparationError
from forebay.serve.lanes import Lanes, Listing, open_lane
from forebay.serve.signals import Signals
from forebay.settings import LiveSettings, ServerConfig, Settings
from forebay.settings.sources import PREFIX
from tests.support.engines import PuppetEngine

Started = list[tuple[Settings, list[ServedModel]]]


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """What would have been served."""
    found: Started = []

    def run(live: LiveSettings, models: list[ServedModel], **_: object) -> int:
        found.append((live.current, models))
        return 0

    monkeypatch.setattr(process, "run", run)
    return found


def typed(*arguments: str, **variables: str) -> tuple[int, str]:
    """Return exit status and everything said."""
    environment: dict[str, str | None] = {**variables, "COLUMNS": "80"}
    told = CliRunner().invoke(command_line, arguments, env=environment)
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told.exit_code, told.output


def test_the_version_is_told() -> None:
    assert typed("--version") == (0, f"forebay {__version__}\n")


@pytest.mark.parametrize("command", [[], ["serve"], ["config"], ["pull"], ["models"]])
def test_help_fits_a_terminal_and_exits_well(command: list[str]) -> None:
    status, told = typed(*command, "--help")
    assert status == 0
    assert max(map(len, told.splitlines())) <= 80


def test_the_help_of_serve_names_its_options_its_defaults_and_examples() -> None:
    told = typed("serve", "--help")[1]
    for word in ("--engine", "--host", "--port", "--config", "--set", DEFAULT, "8000", "Examples"):
        assert word in told


def test_help_imports_nothing_heavy() -> None:
    heavy = ["fastapi", "uvicorn", "openvino", "numpy", "tokenizers", "huggingface_hub", "jinja2"]
    code = (
        "import sys; from forebay.cli.main import app\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=30
    )
    assert found.stdout.decode() == "[]\n"


def test_flags_set_what_is_served(started: Started) -> None:
    status, _ = typed("serve", "--engine", "scripted", "--host", "127.0.0.2", "--port", "9")
    assert status == 0
    ((settings, (model,)),) = started
    assert (settings.server.host, settings.server.port) == ("127.0.0.2", 9)
    assert (settings.engine.name, model) == (
        "scripted",
        ServedModel(name="scripted", engine="scripted"),
    )


def test_an_engine_without_a_model_takes_the_name_that_was_chosen(started: Started) -> None:
    typed("serve", "parrot", "--engine", "scripted")
    assert started[0][1] == [ServedModel(name="parrot", engine="scripted")]


def test_the_environment_and_assignments_are_read(started: Started) -> None:
    typed("serve", "--set", "admission.waiting_max=3", FOREBAY_ENGINE__NAME="scripted")
    assert started[0][0].admission.waiting_max == 3


def test_wrong_settings_are_told_without_a_traceback_and_with_status_two(started: Started) -> None:
    status, told = typed("serve", "--port", "99999", "--set", "servr.port=1")
    assert status == 2
    assert told.splitlines() == [
        "forebay: 2 settings are wrong.",
        "  --set servr.port: servr.port is not a setting. Did you mean server.port?",
        "  --port: server.port must be a whole number from 0 to 65535; found 99999.",
    ]
    assert not started


def test_a_start_that_is_refused_says_why_and_has_status_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(*_: object, **__: object) -> NoReturn:
        raise StartRefused("Port 8000 is taken. Choose another with --port.")

    monkeypatch.setattr(process, "run", run)
    expected = "forebay: Port 8000 is taken. Choose another with --port.\n"
    assert typed("serve", "--engine", "scripted") == (1, expected)


def test_a_machine_without_an_engine_is_told_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, started: Started
) -> None:
    monkeypatch.setattr("forebay.engine.registry.runnable", lambda _: False)
    status, told = typed("serve")
    assert status == 2
    assert "pip install" in told
    assert "--engine scripted" in told
    assert not started


def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    status, told = typed("pull", "gtp-4")
    assert status == 2
    assert DEFAULT in told


def test_a_preparation_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def prepare(*_: object, **__: object) -> NoReturn:
        raise PreparationError("The disk is full. Free some.")

    monkeypatch.setattr("forebay.models.preparation.prepare", prepare)
    status, told = typed("pull", DEFAULT, FOREBAY_MODEL__CACHE=str(tmp_path))
    assert (status, told) == (1, "forebay: The disk is full. Free some.\n")


def test_a_preparation_that_is_interrupted_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def prepare(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("forebay.models.preparation.prepare", prepare)
    status, told = typed("pull", DEFAULT, FOREBAY_MODEL__CACHE=str(tmp_path))
    assert status == 1
    assert told.startswith("forebay: Stopped")


def test_models_lists_the_catalogue(tmp_path: Path) -> None:
    status, told = typed("models", "--json", FOREBAY_MODEL__CACHE=str(tmp_path))
    assert status == 0
    (row,) = json.loads(told)
    assert (row["name"], row["prepared"]) == (DEFAULT, "not prepared")
    assert DEFAULT in typed("models", FOREBAY_MODEL__CACHE=str(tmp_path))[1]


def test_config_prints_every_value_and_where_it_came_from() -> None:
    status, told = typed("config", "--set", "server.port=9", FOREBAY_LOG__FORMAT="json")
    assert status == 0
    rows = [line.split(maxsplit=2) for line in told.splitlines()]
    assert ["server.port", "9", "--set server.port"] in rows
    assert ["log.format", "json", "FOREBAY_LOG__FORMAT"] in rows
    assert ["server.host", "127.0.0.1", "default"] in rows


def test_config_prints_json_when_asked() -> None:
    told = typed("config", "--json", "--set", "server.port=9")[1]
    assert json.loads(told)["server.port"] == {"value": 9, "set_by": "--set server.port"}


def test_the_page_has_every_command_and_option() -> None:
    page = cli_page()
    for word in ("forebay serve [MODEL]", "forebay pull MODEL", "--json", "--engine NAME"):
        assert word in page


def announced(
    monkeypatch: pytest.MonkeyPatch,
    server: ServerConfig,
    info: EngineInfo,
    *more: str,
    tenancy: SimpleNamespace | None = None,
) -> str:
    """Return what is said once a server of these facts is ready."""

    def run(
        live: LiveSettings,
        models: list[ServedModel],
        *,
        signals: Signals,
        announce: Callable[[Service], None],
    ) -> int:
        engine = PuppetEngine()
        engine.info = info
        name, config = models[0].name, live.current.admission
        lane = open_lane(name, engine, config=config, created=0, now=MONOTONIC)
        lanes = Lanes([lane], listings=[Listing(name=name), *(Listing(name=each) for each in more)])
        settings = replace(live.current, server=server)
        service = SimpleNamespace(settings=settings, lanes=lanes, tenancy=tenancy)
        announce(cast("Service", service))
        return 0

    monkeypatch.setattr(process, "run", run)
    return typed("serve", "--engine", "scripted")[1]


def test_a_ready_server_says_what_where_and_how_to_try_it(monkeypatch: pytest.MonkeyPatch) -> None:
    info = EngineInfo(
        name="openvino",
        context_tokens_max=8192,
        running_max=32,
        supports=frozenset(),
        kv_bytes=512_000_000,
        kv_tokens_max=23_301,
        detail="int8, 2 threads",
    )
    told = announced(monkeypatch, ServerConfig(port=9), info)
    for words in (
        "Serving scripted at http://127.0.0.1:9",
        "openvino: int8, 2 threads",
        "32 sequences at once, 8,192 tokens each",
        "KV cache 512 MB for 23,301 tokens",
        "curl http://127.0.0.1:9/v1/chat/completions",
        "OPEN: every program on this machine may use it",
    ):
        assert words in told


def test_a_server_with_a_certificate_is_asked_by_https(monkeypatch: pytest.MonkeyPatch) -> None:
    info = EngineInfo(name="scripted", context_tokens_max=8, running_max=3, supports=frozenset())
    told = announced(monkeypatch, ServerConfig(port=9, tls_certificate="/x"), info)
    assert "https://127.0.0.1:9" in told
    assert "http://" not in told


def test_models_that_are_not_in_memory_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    info = EngineInfo(name="scripted", context_tokens_max=8, running_max=3, supports=frozenset())
    told = announced(monkeypatch, ServerConfig(port=9), info, "big", "bigger")
    assert "Serving scripted, big, bigger at" in told
    assert "asleep   big, bigger: loaded when asked for" in told


def test_a_closed_server_shows_the_first_password_and_asks_for_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = EngineInfo(name="scripted", context_tokens_max=8, running_max=3, supports=frozenset())
    first = announced(
        monkeypatch, ServerConfig(port=9), info, tenancy=SimpleNamespace(first_password="x-y-z")
    )
    assert "password x-y-z" in first
    assert "authorization: Bearer $FOREBAY_KEY" in first
    later = announced(
        monkeypatch, ServerConfig(port=9), info, tenancy=SimpleNamespace(first_password=None)
    )
    assert "closed" in later
    assert "password" not in later


def test_an_engine_without_a_cache_has_no_line_about_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = EngineInfo(
        name="scripted", context_tokens_max=8192, running_max=32, supports=frozenset()
    )
    told = announced(monkeypatch, ServerConfig(host="::1", port=9), info)
    assert "memory" not in told
    assert "http://[::1]:9" in told


def test_a_log_that_cannot_be_written_refuses_the_start() -> None:
    options = ("--engine", "scripted", "--port", "0", "--set", "log.destination=/no/such/log")
    status, told = typed("serve", *options)
    assert status == 1
    assert told.startswith("forebay: The log cannot be written to /no/such/log: No such file")
