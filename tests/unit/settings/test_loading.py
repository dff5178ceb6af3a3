import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from forebay.core.knob import knob
from forebay.engine import registry
from forebay.engine.protocol import StepEngine
from forebay.engine.registry import EngineKind
from forebay.settings import ConfigurationError, Loaded, ModelConfig, Settings, Sources, load
from forebay.settings.loading import BY_DEFAULT, sections, shown
from forebay.settings.sections import FIXED_SECTIONS, settings_of
from forebay.settings.sources import variable

SETTINGS = [*settings_of(FIXED_SECTIONS)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SecretConfig:
    token: str = knob("", "What the upstream asks for.", secret=True)
    threads: int | None = knob(None, "Threads.", minimum=1, maximum=8)


@pytest.fixture(autouse=True)
def _engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """One engine is installed, and one that cannot be imported."""

    def find(name: str) -> EngineKind:
        if name == "broken":
            raise ImportError("no library")
        make = cast("Callable[[Any, Path | None], StepEngine]", None)
        return EngineKind(name=name, config=SecretConfig, form=None, make=make)

    monkeypatch.setattr(registry, "names", lambda: ["broken", "scripted"])
    monkeypatch.setattr(registry, "find", find)


def a_file(folder: Path, text: str) -> Path:
    path = folder / "forebay.yaml"
    path.write_text(text)
    return path


def problems(
    *assignments: str, file: Path | None = None, environ: Mapping[str, str] | None = None
) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(Sources(file=file, environ=environ or {}, assignments=assignments))
    return [str(problem) for problem in caught.value.problems]


def effective(loaded: Loaded, key: str) -> tuple[object, str]:
    (found,) = [each for each in loaded.effective if each.setting.key == key]
    return found.value, found.set_by


def test_nothing_set_gives_the_defaults_and_says_so() -> None:
    loaded = load(Sources())
    assert dataclasses.replace(loaded.settings, engines={}) == Settings()
    assert {each.set_by for each in loaded.effective} == {BY_DEFAULT}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_default_is_a_value_that_may_be_set(setting: object) -> None:
    (same,) = [each for each in SETTINGS if each is setting]
    text = shown(same, same.default)
    if same.default != "":
        loaded = load(Sources(assignments=(f"{same.key}={text}",)))
        assert effective(loaded, same.key) == (same.default, f"--set {same.key}")


def test_each_source_beats_the_one_before_it(tmp_path: Path) -> None:
    key = "server.port"
    file = a_file(tmp_path, "server:\n  port: 1\n")
    environ = {variable(key): "2"}
    flags = {key: ("--port", 4)}
    by_file = load(Sources(file=file))
    by_variable = load(Sources(file=file, environ=environ))
    by_set = load(Sources(file=file, environ=environ, assignments=(f"{key}=3",)))
    by_flag = load(Sources(file=file, environ=environ, assignments=(f"{key}=3",), flags=flags))
    assert effective(by_file, key) == (1, f"{file}:2")
    assert effective(by_variable, key) == (2, "FOREBAY_SERVER__PORT")
    assert effective(by_set, key) == (3, "--set server.port")
    assert effective(by_flag, key) == (4, "--port")
    assert by_flag.settings.server.port == 4


def test_the_last_of_two_assignments_wins() -> None:
    loaded = load(Sources(assignments=("server.port=1", "server.port=2")))
    assert loaded.settings.server.port == 2


def test_a_variable_may_name_the_file(tmp_path: Path) -> None:
    file = a_file(tmp_path, "log: {format: json}")
    loaded = load(Sources(environ={"FOREBAY_CONFIG": str(file)}))
    assert loaded.settings.log.format == "json"


def test_a_callers_key_in_the_environment_is_no_setting() -> None:
    assert not {
        each.set_by for each in load(Sources(environ={"FOREBAY_KEY": "fb_live_x"})).effective
    } - {"default"}


def test_variables_of_others_are_left_alone() -> None:
    load(Sources(environ={"PATH": "/bin", "FOREBAYISH": "1"}))


@pytest.mark.parametrize(
    ("assignment", "meant"),
    [
        ("admission.wait_s_mx=2", "admission.wait_s_max"),
        ("wait_s_max=2", "admission.wait_s_max"),
        ("addmission.wait_s_max=2", "admission.wait_s_max"),
        ("port=80", "server.port"),
        ("modle.name=x", "model.name"),
    ],
)
def test_an_unknown_key_stops_the_start_and_names_the_nearest(assignment: str, meant: str) -> None:
    key = assignment.partition("=")[0]
    expected = f"--set {key}: {key} is not a setting. Did you mean {meant}?"
    assert problems(assignment) == [expected]


def test_an_unknown_key_that_resembles_nothing_points_at_the_list() -> None:
    (problem,) = problems("zzzzqqqq=1")
    assert problem.endswith("`forebay config` lists every setting.")


def test_an_unknown_variable_stops_the_start_in_its_own_spelling() -> None:
    found = problems(environ={"FOREBAY_ADMISSION_WAIT_S_MAX": "2"})
    meant = "FOREBAY_ADMISSION__WAIT_S_MAX"
    assert found == [
        f"FOREBAY_ADMISSION_WAIT_S_MAX: This variable is not a setting. Did you mean {meant}?"
    ]


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("server.port=99999", "a whole number from 0 to 65535; found '99999'."),
        ("server.port=-1", "a whole number from 0 to 65535; found '-1'."),
        ("server.port=80.5", "a whole number from 0 to 65535; found '80.5'."),
        ("server.port=", "a whole number from 0 to 65535; found ''."),
        ("admission.wait_s_max=nan", "a number from 0.01 to 3600; found 'nan'."),
        ("admission.wait_s_max=inf", "a number from 0.01 to 3600; found 'inf'."),
        ("admission.wait_s_max=soon", "a number from 0.01 to 3600; found 'soon'."),
        ("log.requests=maybe", "true or false; found 'maybe'."),
        ("log.format=xml", "one of auto, json, text; found 'xml'."),
        ("log.format=" + "x" * 999, "one of auto, json, text; found '" + "x" * 60 + "…'."),
        ("scripted.threads=9", "a whole number from 1 to 8, or null; found '9'."),
    ],
)
def test_a_value_that_does_not_fit_says_what_would(assignment: str, expected: str) -> None:
    key = assignment.partition("=")[0]
    assert problems(assignment) == [f"--set {key}: {key} must be {expected}"]


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("server: {port: '80'}", "a whole number from 0 to 65535; found '80'."),
        ("server: {port: true}", "a whole number from 0 to 65535; found true."),
        ("server: {port: [80]}", "a whole number from 0 to 65535; found a list."),
        ("server: {port: }", "a whole number from 0 to 65535; found nothing."),
        ("server: {port: 2020-01-01}", "a whole number from 0 to 65535; found something else."),
    ],
)
def test_a_file_is_strict_about_types(tmp_path: Path, yaml: str, expected: str) -> None:
    file = a_file(tmp_path, yaml)
    assert problems(file=file) == [f"{file}:1: server.port must be {expected}"]


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("log:\n  format: json\n  format: text\n", ":3: log.format stands twice."),
        ("log:\nlog:\n", ":2: log stands twice."),
        ("server: 5\n", ":1: server is a section. Set one of its values, as in server.host."),
        ("log: {format: {a: 1}}\n", ":1: log.format.a is not a setting. Did you mean log.format?"),
        ("- model\n", ": The file must hold keys and values"),
        ("model: [\n", ":2: This is not YAML"),
        ("model: !!python/object:os.system x\n", ":1: This is not YAML"),
        ("? [a]\n: 1\n", ":1: ? is not a setting."),
        ("model: \x07\n", ": This is not YAML"),
        ("[" * 20_000, ": The file is nested too deeply"),
    ],
)
def test_a_file_that_is_wrong_is_told_with_its_line(
    tmp_path: Path, yaml: str, expected: str
) -> None:
    file = a_file(tmp_path, yaml)
    (problem,) = problems(file=file)
    assert problem.startswith(f"{file}{expected}")


def test_an_empty_file_and_an_empty_section_set_nothing(tmp_path: Path) -> None:
    load(Sources(file=a_file(tmp_path, "")))
    load(Sources(file=a_file(tmp_path, "log:\n")))


def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "no.yaml"
    assert problems(file=missing) == [
        f"{missing}: The file cannot be read: No such file or directory."
    ]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe")
    assert problems(file=binary) == [f"{binary}: The file is not UTF-8 text. Save it as UTF-8."]
    huge = a_file(tmp_path, "#" * 2_000_000)
    assert problems(file=huge) == [
        f"{huge}: The file cannot be read: it is larger than 1048576 bytes."
    ]


def test_an_assignment_needs_a_key_and_a_value() -> None:
    assert problems("server.port") == ["--set server.port: Write it as --set key.path=value."]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    file = a_file(tmp_path, "servr: {port: 1}\nlog: {format: xml}\n")
    found = problems("server.port=x", file=file, environ={"FOREBAY_LOG__LINES_MAX": "1"})
    assert [problem.partition(": ")[0] for problem in found] == [
        f"{file}:1",
        f"{file}:2",
        "FOREBAY_LOG__LINES_MAX",
        "--set server.port",
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_an_address_that_others_reach_is_refused_while_nobody_is_asked_who_they_are(
    host: str,
) -> None:
    (problem,) = problems(f"server.host={host}")
    assert problem.startswith("--set server.host: Others can reach")
    load(Sources(assignments=(f"server.host={host}", "access.mode=closed")))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_may_be_open(host: str) -> None:
    assert load(Sources(assignments=(f"server.host={host}",))).settings.server.host == host


def test_an_engine_has_a_section_of_its_own() -> None:
    loaded = load(Sources(assignments=("scripted.threads=4",)))
    options = loaded.settings.engine_options("scripted")
    assert options == {"token": "", "threads": 4}


def test_an_engine_is_asked_for_its_defaults_where_nothing_was_loaded() -> None:
    assert Settings().engine_options("scripted") == {"token": "", "threads": None}


def test_an_engine_that_cannot_be_imported_has_no_section_and_stops_nothing() -> None:
    assert "broken" not in sections()
    load(Sources())


def test_a_setting_of_an_engine_that_cannot_be_imported_says_so() -> None:
    expected = "The engine broken cannot be imported: no library. Install what it needs."
    assert problems("broken.threads=2") == [f"--set broken.threads: {expected}"]


def test_an_engine_that_is_not_installed_is_refused() -> None:
    expected = "engine.name must be one of auto, broken, scripted; found 'vllm'."
    assert problems("engine.name=vllm") == [f"--set engine.name: {expected}"]


def test_a_secret_is_never_shown() -> None:
    loaded = load(Sources(assignments=("scripted.token=hunter2",)))
    assert loaded.settings.engine_options("scripted")["token"] == "hunter2"
    assert "hunter2" not in repr(loaded.settings)
    shown = [each.shown for each in loaded.effective if each.setting.key == "scripted.token"]
    assert shown == ["***"]


def test_a_secret_of_the_wrong_type_is_not_told(tmp_path: Path) -> None:
    (problem,) = problems(file=a_file(tmp_path, "scripted: {token: 12345}"))
    assert "12345" not in problem


def test_every_setting_says_what_it_allows() -> None:
    assert all(setting.allowed for setting in SETTINGS)


def test_the_cache_is_where_it_was_put_or_where_caches_are() -> None:
    assert ModelConfig(cache="/a").folder({}) == Path("/a")
    assert ModelConfig().folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/forebay")
    assert ModelConfig().folder({}) == Path.home() / ".cache" / "forebay"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://:secret@host/0", "must begin with one of redis://, rediss://, unix://"),
        ("redis://:secret@host:port/0", "cannot be read; write it as redis://"),
        ("redis://:secret@[::1/0", "cannot be read; write it as redis://"),
        ("redis://:secret@host/0?decode_responses=yes", "options that begin with ssl_ only"),
        ("rediss://:secret@host/0?ssl_flags=1", "cannot be read; write it as redis://"),
    ],
)
def test_an_address_of_a_store_that_cannot_be_is_refused_and_not_shown(
    url: str, expected: str
) -> None:
    (problem,) = problems(f"store.url={url}")
    assert problem.startswith("--set store.url: store.url")
    assert expected in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://user:secret@host:6379/1",
        "rediss://host/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock",
    ],
)
def test_an_address_of_a_store_is_taken(url: str) -> None:
    loaded = load(Sources(assignments=(f"store.url={url}",)))
    assert loaded.settings.store.url == url
    assert url not in repr(loaded.settings)


def test_words_that_yaml_reads_as_yes_or_no_are_taken_where_they_are_choices(
    tmp_path: Path,
) -> None:
    file = a_file(tmp_path, "guard: {mode: off}\n")
    assert load(Sources(file=file)).settings.guard.mode == "off"
    file.write_text("guard: {mode: on}\n")
    (problem,) = problems(file=file)
    assert "one of off, flag, block" in problem
