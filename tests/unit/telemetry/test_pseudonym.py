import errno
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forebay.telemetry.pseudonym import SALT_BYTES, Pseudonyms, kept_salt


def test_a_user_has_one_name_that_is_not_its_own() -> None:
    named = Pseudonyms(b"s" * SALT_BYTES)
    assert named("ann") == named("ann")
    assert named("ann") != named("bob")
    assert "ann" not in named("ann")
    assert len(named("x" * 10_000)) == len(named("")) == 16
    assert named("\ud800")


def test_who_has_not_the_salt_cannot_guess_a_name() -> None:
    assert Pseudonyms(b"a" * SALT_BYTES)("ann") != Pseudonyms(b"b" * SALT_BYTES)("ann")


def test_a_salt_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "state" / "log-salt"
    salt = kept_salt(file)
    assert len(salt) == SALT_BYTES
    assert kept_salt(file) == salt
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_servers_that_start_together_agree_on_one_salt(tmp_path: Path) -> None:
    file = tmp_path / "log-salt"
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: kept_salt(file), range(8)))) == 1


def test_a_file_that_holds_no_salt_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "log-salt"
    file.write_bytes(b"short")
    with pytest.raises(OSError, match="32 bytes") as caught:
        kept_salt(file)
    assert caught.value.errno == errno.EINVAL


def test_two_installations_have_two_salts(tmp_path: Path) -> None:
    assert kept_salt(tmp_path / "a") != kept_salt(tmp_path / "b")
