import subprocess
import sys
from pathlib import Path

import pytest

from forebay.accounts.config import AccountsConfig, default_url, misfit


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/lib/forebay/accounts.sqlite",
        "sqlite:///relative.sqlite",
        "postgresql://me:hunter2@db:5432/forebay",
        "postgres://db/forebay",
        "postgresql+psycopg://me@db/forebay?sslmode=verify-full&sslrootcert=/ca.pem",
        "postgresql://me@/forebay?host=/run/postgresql",
    ],
)
def test_an_address_that_can_be_asked_is_taken(url: str) -> None:
    assert misfit(url) is None


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "written as"),
        ("mysql://me:hunter2@db/x", "written as"),
        ("hunter2", "written as"),
        ("sqlite://", "written as"),
        ("sqlite:///", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:///file:hunter2?mode=memory", "name a file"),
        ("sqlite:///a.sqlite?mode=ro", "name a file"),
        ("postgresql://me:hunter2@db:5432", "names no database"),
        ("postgresql://me:hunter2@db:port/x", "cannot be read"),
        ("postgresql://me@db/x?options=-c%20hunter2", "options"),
        ("postgresql://me@db/x?passfile=/hunter2", "options"),
        ("postgresql+asyncpg://me:hunter2@db/x", "written as"),
    ],
)
def test_an_address_that_cannot_is_explained_and_not_shown(url: str, told: str) -> None:
    said = misfit(url)
    assert said is not None
    assert told in said
    assert said.startswith("accounts.url ")
    assert "hunter2" not in said


def test_an_address_is_not_in_the_configurations_text() -> None:
    assert "hunter2" not in repr(AccountsConfig(url="postgresql://me:hunter2@db/x"))


def test_the_default_is_a_file_in_the_servers_folder(tmp_path: Path) -> None:
    assert default_url(tmp_path / "state") == f"sqlite:///{tmp_path}/state/accounts.sqlite"
    assert misfit(default_url(Path("a b%?#ü"))) is None


def test_the_configuration_loads_no_database_library() -> None:
    code = (
        "import sys, forebay.accounts.config, forebay.accounts.audit_event, forebay.serve.auditing;"
        "print([name for name in ('sqlalchemy', 'alembic', 'argon2', 'jwt', 'psycopg') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
