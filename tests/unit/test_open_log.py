"""How the log is opened: where it cannot be, the start is refused with the fix."""

from dataclasses import replace
from pathlib import Path

import pytest

from forebay import app
from forebay.serve.credentials import AccessConfig
from forebay.serve.replay_config import ReplayConfig
from forebay.settings import Settings
from forebay.telemetry.logs import LogConfig


@pytest.mark.parametrize("destination", ["tcp://nowhere", "tcp://:5170", "/no/such/folder/log"])
def test_a_log_that_cannot_be_written_stops_the_start_with_the_fix(destination: str) -> None:
    with pytest.raises(app.StartRefused, match=r"Set log\.destination to") as caught:
        app.open_log(LogConfig(destination=destination))
    assert destination in str(caught.value)


def closed(folder: Path) -> Settings:
    return Settings(
        access=AccessConfig(mode="closed"), replay=ReplayConfig(path=str(folder / "replay.sqlite"))
    )


def test_in_closed_mode_the_salt_is_kept_beside_the_servers_own_files(tmp_path: Path) -> None:
    settings = closed(tmp_path)
    salt = app._salt(settings)
    assert salt == (tmp_path / "log-salt").read_bytes()
    assert app._salt(settings) == salt


def test_servers_may_share_a_salt(tmp_path: Path) -> None:
    shared = LogConfig(salt_file=str(tmp_path / "shared"))
    salts = {app._salt(replace(closed(tmp_path / name), log=shared)) for name in ("a", "b")}
    assert salts == {(tmp_path / "shared").read_bytes()}


def test_in_open_mode_nobody_has_a_name_so_there_is_no_salt(tmp_path: Path) -> None:
    settings = Settings(replay=ReplayConfig(path=str(tmp_path / "replay.sqlite")))
    assert app._salt(settings) is None
    assert list(tmp_path.iterdir()) == []


def test_a_salt_that_cannot_be_kept_stops_the_start_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    settings = replace(closed(tmp_path), log=LogConfig(salt_file=str(tmp_path / "file" / "salt")))
    with pytest.raises(app.StartRefused, match=r"Set log\.salt_file to"):
        app._salt(settings)
