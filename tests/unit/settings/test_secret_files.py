"""Secrets that stand in files."""

from pathlib import Path

import pytest

from forebay.settings import ConfigurationError, Sources, load

VARIABLE = "FOREBAY_ACCESS__ADMIN_PASSWORD_FILE"


def a_file(folder: Path, content: bytes) -> str:
    path = folder / "secret"
    path.write_bytes(content)
    return str(path)


def test_a_secret_is_read_from_the_file_that_is_named(tmp_path: Path) -> None:
    path = a_file(tmp_path, b"a secret with blanks \n")
    settings = load(Sources(environ={VARIABLE: path})).settings
    assert settings.access.admin_password == "a secret with blanks "


def test_a_config_file_names_it_too(tmp_path: Path) -> None:
    path = a_file(tmp_path, b"from a file")
    config = tmp_path / "forebay.yaml"
    config.write_text(f"access: {{admin_password_file: {path}}}\n")
    assert load(Sources(file=config)).settings.access.admin_password == "from a file"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 65_537, None])
def test_a_file_that_holds_no_secret_is_refused_by_name(
    content: bytes | None, tmp_path: Path
) -> None:
    path = str(tmp_path / "none") if content is None else a_file(tmp_path, content)
    with pytest.raises(ConfigurationError, match="admin_password_file must name a text file"):
        load(Sources(environ={VARIABLE: path}))


def test_what_is_no_secret_has_no_file(tmp_path: Path) -> None:
    path = a_file(tmp_path, b"127.0.0.1")
    with pytest.raises(ConfigurationError, match="not a setting"):
        load(Sources(environ={"FOREBAY_SERVER__HOST_FILE": path}))
