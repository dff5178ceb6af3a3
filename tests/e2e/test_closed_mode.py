"""The closed mode of a real server: its first start, keys, logins, limits, budgets, the audit."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server, serving

CLOSED = ("--engine", "scripted", "--set", "access.mode=closed")
CHAT = "/v1/chat/completions"


class Client:
    """Asks a server with one credential."""

    def __init__(self, server: Server, credential: str = "") -> None:
        self._url = server.url
        self._credential = credential

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and JSON, or text, of a GET or of a POST of JSON."""
        request = urllib.request.Request(self._url + path)
        if self._credential:
            request.add_header("authorization", f"Bearer {self._credential}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error.read())

    def chat(self, **fields: Any) -> tuple[int, Any]:
        """Ask for a completion of four tokens."""
        message = {"role": "user", "content": "one two three four five six"}
        return self.ask(CHAT, {"messages": [message], "max_tokens": 4, **fields})


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


def forebay(folder: Path, *arguments: str, status: int = 0) -> str:
    """Run a command on the same accounts, and return what it prints."""
    environment = os.environ | {"XDG_STATE_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "forebay", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def a_key(folder: Path, user: str, *options: str) -> str:
    made = json.loads(forebay(folder, "keys", "create", "--user", user, "--json", *options))
    return str(made["key"])


def first_password(server: Server) -> str:
    found = re.findall(r"^  password (\S+)$", server.log.read_text(), re.MULTILINE)
    assert len(found) == 1, "it is shown once"
    return str(found[0])


def logged_in(server: Server, password: str) -> Client:
    body = {"username": "admin", "password": password}
    status, answer = Client(server).ask("/auth/login", body)
    assert status == 200, answer
    return Client(server, answer["access_token"])


def until(true: Callable[[], bool]) -> None:
    """Wait for what is written behind a request."""
    ends = time.monotonic() + 10
    while not true():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.05)


def test_the_first_start_makes_an_administrator_who_runs_the_rest(tmp_path: Path) -> None:
    with serving(tmp_path, *CLOSED) as server:
        admin = logged_in(server, first_password(server))
        status, user = admin.ask("/admin/users", {"name": "ann", "tenant": "acme"})
        assert (status, user["role"]) == (200, "user")
        order = {"user": "ann", "scopes": ["infer"], "limits": {"requests": "2/minute"}}
        status, made = admin.ask("/admin/keys", order)
        assert status == 200
        ann = Client(server, made["key"])
        assert [ann.chat()[0] for _ in range(3)] == [200, 200, 429]
        assert ann.ask("/v1/models")[0] == 403
        assert admin.ask("/admin/keys/revoke", {"id": made["id"]})[0] == 200
        assert ann.chat()[0] == 401, "a revocation holds at once where it was made"
        listed = admin.ask("/admin/keys?user=ann")[1]["keys"]
        assert [key["id"] for key in listed] == [made["id"]]
        assert "key" not in listed[0]
        until(lambda: "key.revoked" in str(admin.ask("/admin/audit")[1]))
        assert server.stop() == 0
    assert made["key"] not in server.log.read_text()
    assert "none changed" in forebay(tmp_path, "audit", "--verify")
    with serving(tmp_path, *CLOSED) as again:
        assert "password" not in again.log.read_text()


def test_a_token_ends_with_its_logout_and_its_password(tmp_path: Path) -> None:
    with serving(tmp_path, *CLOSED) as server:
        password = first_password(server)
        one, other = logged_in(server, password), logged_in(server, password)
        assert one.ask("/auth/logout", {})[0] == 200
        assert (one.chat()[0], other.chat()[0]) == (401, 200)
        new = {"current": password, "new": "Kb7 a long new one 19"}
        assert other.ask("/auth/password", new)[0] == 200
        assert other.chat()[0] == 401
        assert (
            Client(server).ask("/auth/login", {"username": "admin", "password": password})[0] == 401
        )
        assert logged_in(server, new["new"]).chat()[0] == 200


def test_a_budget_is_never_overspent_and_usage_adds_up(tmp_path: Path) -> None:
    forebay(tmp_path, "users", "create", "ann")
    key = a_key(tmp_path, "ann")
    forebay(tmp_path, "budgets", "set", "user:ann", "200", "--per", "day")
    with serving(tmp_path, *CLOSED) as server:
        ann = Client(server, key)
        answers = [ann.chat() for _ in range(40)]
        served = [answer for status, answer in answers if status == 200]
        refused = [answer["error"]["code"] for status, answer in answers if status != 200]
        assert set(refused) == {"insufficient_quota"}
        spent = sum(answer["usage"]["total_tokens"] for answer in served)
        assert 0 < spent <= 200
        until(lambda: ann.ask("/v1/usage")[1]["data"][0]["requests"] == len(served))
        usage = ann.ask("/v1/usage")[1]
        day = usage["data"][0]
        assert day["prompt_tokens"] + day["completion_tokens"] == spent
        (budget,) = usage["budgets"]
        assert (budget["spent"], budget["reserved"]) == (spent, 0)


def test_a_replayed_answer_is_billed_once(tmp_path: Path) -> None:
    forebay(tmp_path, "users", "create", "ann")
    with serving(tmp_path, *CLOSED) as server:
        key = a_key(tmp_path, "ann")
        ann = Client(server, key)
        for _ in range(3):
            request = urllib.request.Request(server.url + CHAT)
            request.data = json.dumps(
                {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 4}
            ).encode()
            for name, value in {
                "authorization": f"Bearer {key}",
                "content-type": "application/json",
                "idempotency-key": "the-same",
            }.items():
                request.add_header(name, value)
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.status == 200
        until(lambda: bool(ann.ask("/v1/usage")[1]["data"]))
        assert ann.ask("/v1/usage")[1]["data"][0]["requests"] == 1


@pytest.mark.parametrize("password", ["admin123", "administrator", "changeme", "short"])
def test_a_password_that_everybody_knows_does_not_start(tmp_path: Path, password: str) -> None:
    said = (*CLOSED, "--set", f"access.admin_password={password}")
    with serving(tmp_path, *said, ready=False) as server:
        assert server.process.wait(timeout=30) == 1
        assert "access.admin_password" in server.log.read_text()
        assert password not in server.log.read_text().replace("access.admin_password", "")
    with serving(tmp_path, *said, "--dev") as server:
        assert "--dev" in server.log.read_text()
        assert logged_in(server, password).chat()[0] == 200
    with serving(tmp_path, *CLOSED, ready=False) as server:
        assert server.process.wait(timeout=30) == 1
        assert "Everybody knows" in server.log.read_text()


def test_the_open_mode_says_so_and_serves_no_other_address(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine", "scripted") as server:
        assert "OPEN" in server.log.read_text()
    said = ("--engine", "scripted", "--host", "0.0.0.0")
    with serving(tmp_path, *said, ready=False) as server:
        assert server.process.wait(timeout=30) == 2
        assert "access.mode=closed" in server.log.read_text()


def test_the_open_mode_loads_none_of_the_libraries_of_accounts(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine", "scripted") as server:
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "sqlalchemy" not in maps
        assert "argon2" not in maps
        assert "_cffi_backend" not in maps
