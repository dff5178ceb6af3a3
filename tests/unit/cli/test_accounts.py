"""`forebay users`, `forebay keys` and `forebay audit`, as typed."""

import contextlib
import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.signing_keys import SigningKeys
from forebay.accounts.token_config import TokensConfig
from forebay.cli.main import app


class Desk:
    """A terminal over accounts of its own."""

    def __init__(self, folder: Path) -> None:
        self.config = AccountsConfig(url=default_url(folder / "forebay"))
        self._environment = {"XDG_STATE_HOME": str(folder), "COLUMNS": "200"}

    def types(self, words: str, typed: str = "", *, status: int = 0) -> str:
        """Return what is said to a command, on both streams."""
        told = CliRunner().invoke(app, words.split(), input=typed, env=self._environment)
        assert told.exit_code == status, told.output
        return told.output


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_first_command_says_where_it_made_new_accounts_and_no_other_does(desk: Desk) -> None:
    assert "Made new accounts: /" in desk.types("users list")
    assert "Made new accounts" not in desk.types("users list")


def test_users_are_made_listed_shut_out_and_let_in_again(desk: Desk) -> None:
    made = desk.types("users create ann --tenant acme --requests 5/minute --concurrent 2")
    assert "Made the user ann of acme." in made
    assert "5/minute requests, 2 at once" in desk.types("users list")
    desk.types("users disable ann")
    assert "disabled" in desk.types("users list")
    desk.types("users enable ann")
    assert "active" in desk.types("users list")
    listed = json.loads(desk.types("users list --json"))
    assert [user["name"] for user in listed] == ["ann"]


def test_a_password_comes_from_a_pipe_and_never_from_an_empty_one(desk: Desk) -> None:
    desk.types("users create ann --password", "a long passphrase 17\n")
    assert "no password" in desk.types("users create bob --password", "", status=2)
    assert "no password" in desk.types("users password ann", "\n", status=2)
    assert "logged out everywhere" in desk.types("users password ann", "another passphrase 18\n")
    listed = json.loads(desk.types("users list --json"))
    assert [(user["name"], user["has_password"]) for user in listed] == [("ann", True)]


def test_a_key_is_shown_once_replaced_with_a_warning_and_revoked(desk: Desk) -> None:
    desk.types("users create ann")
    made = json.loads(desk.types("keys create --user ann --expires 90d --model m --json"))
    assert made["key"].startswith("fb_live_")
    assert made["models"] == ["m"]
    assert made["expires_at"] - made["created_at"] == pytest.approx(90 * 86_400, abs=5)
    assert made["key"] not in desk.types("keys list")
    first = desk.types(f"keys rotate {made['id']} --overlap 2h")
    assert "The old one ends in 2h." in first
    assert "has ended" not in first
    assert "The one before that" in desk.types(f"keys rotate {made['id']}")
    assert "opens nothing any more" in desk.types(f"keys revoke {made['id']}")
    assert "revoked 20" in desk.types("keys list --user ann")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("keys create --user nobody", "No user has this name"),
        ("keys create --user ann --scope admin", "rights of the user"),
        ("keys create --user ann --expires soon", "--expires must be a time such as 30m"),
        ("keys create --user ann --requests lots", "limits.requests: expected"),
        ("keys revoke x", "No API key has this id"),
        ("users create ann", "user ann already"),
        ("users disable nobody", "No user has this name"),
    ],
)
def test_what_is_typed_wrongly_is_told_with_its_fix(desk: Desk, words: str, told: str) -> None:
    desk.types("users create ann")
    assert told in desk.types(words, status=2)


def test_the_audit_log_is_shown_filtered_and_checked(desk: Desk) -> None:
    desk.types("users create ann")
    shown = desk.types("audit")
    assert "user.created" in shown
    assert "cli:" in shown
    assert "user.created" not in desk.types("audit --actor somebody")
    assert "1 rows, none changed" in desk.types("audit --verify")


def test_tokens_of_one_or_of_all_are_ended_and_that_is_written_down(desk: Desk) -> None:
    desk.types("users create ann")
    with contextlib.closing(Database(desk.config)) as database:
        directory = Directory(database, desk.config, now=time.time)
        issued = time.time()
        assert directory.caller_of_user("ann", issued) is not None
        assert "ann is logged out everywhere" in desk.types("users logout ann")
        assert directory.caller_of_user("ann", issued) is None
        signs = SigningKeys(database, TokensConfig()).signing(issued)
        assert "Everybody is logged out" in desk.types("users logout --all")
        assert SigningKeys(database, TokensConfig()).find(signs.kid, issued) is None
    assert "Name the user" in desk.types("users logout", status=2)
    assert "Name the user" in desk.types("users logout ann --all", status=2)
    assert desk.types("audit").count("logout") == 2
