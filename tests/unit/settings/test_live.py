"""Settings read again: what is live is applied, the rest is named, a wrong file changes nothing."""

from pathlib import Path

import pytest

from forebay.gateway.admin import InvalidSettings
from forebay.settings import LiveSettings, Settings, Sources, load
from forebay.settings.loading import sections
from forebay.settings.sections import FIXED_SECTIONS, settings_of


class Applied:
    """What was handed to the parts."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []

    def __call__(self, settings: Settings) -> None:
        self.settings.append(settings)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "forebay.yaml"
    path.write_text("server: {drain_s_max: 5}\n")
    return path


def live_settings(file: Path, **environ: str) -> LiveSettings:
    loaded = load(Sources(file=file, environ=environ))
    return LiveSettings(loaded.settings, loaded)


def test_a_live_setting_is_applied_and_another_is_refused_by_name(file: Path) -> None:
    live, applied = live_settings(file), Applied()
    file.write_text("server: {drain_s_max: 7, port: 9}\nlog: {requests: false}\n")
    done = live.take(live.read(), applied)
    assert done.applied == {"server.drain_s_max": "7.0", "log.requests": "false"}
    assert done.refused == {"server.port": "needs a restart"}
    assert applied.settings == [live.current]
    assert (live.current.server.drain_s_max, live.current.log.requests) == (7.0, False)
    assert live.current.server.port == 8000


def test_what_was_applied_is_not_applied_again_and_what_was_refused_is_named_again(
    file: Path,
) -> None:
    live, applied = live_settings(file), Applied()
    file.write_text("server: {drain_s_max: 7, port: 9}\n")
    live.take(live.read(), applied)
    again = live.take(live.read(), applied)
    assert (again.applied, again.refused) == ({}, {"server.port": "needs a restart"})
    assert len(applied.settings) == 1


def test_a_setting_that_is_no_longer_set_falls_back_to_its_default(file: Path) -> None:
    live = live_settings(file)
    file.write_text("")
    assert live.take(live.read(), Applied()).applied == {"server.drain_s_max": "30.0"}
    assert live.current.server.drain_s_max == 30.0


@pytest.mark.parametrize(
    "text",
    [
        "server: {drain_s_max: -1}\nlog: {requests: false}\n",
        "server: {drain_max: 1}\nlog: {requests: false}\n",
        "server: {host: 0.0.0.0}\nlog: {requests: false}\n",
        "server: [",
        "\x00",
    ],
)
def test_a_wrong_file_changes_nothing_and_is_explained(file: Path, text: str) -> None:
    live = live_settings(file)
    before = live.current
    file.write_text(text)
    with pytest.raises(InvalidSettings, match="nothing was changed") as caught:
        live.read()
    assert live.current == before
    assert "forebay.yaml" in caught.value.message
    assert str(file.parent) not in caught.value.message, "a client may read this"


def test_a_model_that_came_or_went_needs_a_restart(file: Path) -> None:
    file.write_text("models: {a: {engine: scripted}, b: {engine: scripted}}\n")
    live = live_settings(file)
    file.write_text("models: {a: {engine: scripted}, c: {engine: scripted}}\n")
    done = live.take(live.read(), Applied())
    assert done.refused["models.b.engine"] == "needs a restart"
    assert done.refused["models.c.engine"] == "needs a restart"
    assert not any(key.startswith("models.a.") for key in done.refused)


def test_a_file_that_is_gone_changes_nothing(file: Path) -> None:
    live = live_settings(file)
    file.unlink()
    with pytest.raises(InvalidSettings, match="cannot be read"):
        live.read()


def test_a_secret_that_changed_is_not_told(file: Path) -> None:
    live = live_settings(file)
    file.write_text("access: {admin_password: 0123456789abcdef}\n")
    told = live.take(live.read(), Applied())
    assert list(told.refused) == ["access.admin_password"]
    assert "0123456789abcdef" not in str(told)


def test_weights_that_cannot_be_read_are_refused(file: Path) -> None:
    live = live_settings(file)
    file.write_text("admission: {tenant_weights: 'alice=lots'}\n")
    with pytest.raises(InvalidSettings, match=r"admission\.tenant_weights: 'alice=lots' is not"):
        live.read()


def test_settings_of_no_source_have_nothing_to_read_again() -> None:
    live = LiveSettings(Settings())
    assert live.read() is None
    assert not live.take(None, Applied()).applied


def test_only_settings_that_the_gateway_works_by_are_live() -> None:
    live = [each.key for each in settings_of(sections()) if each.knob.live]
    assert live
    assert all(key.partition(".")[0] in FIXED_SECTIONS for key in live)
