"""Row 19, secrets in telemetry: recognisable ones are put everywhere, and looked for everywhere.

Where each may be found is written down below; anywhere else it is a leak.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.people import NewKey
from forebay.bench.processes import descendants
from forebay.core.caller import RIGHTS, Role
from tests.support.server import Server, free_port, serving

ADMIN_PASSWORD: Final = "canary-admin-Zx81-passphrase"
USER_PASSWORD: Final = "canary-user-Qd42-passphrase"
WRONG_PASSWORD: Final = "canary-wrong-Lm77-passphrase"
STORE_PASSWORD: Final = "canary-store-Vb19"
CANARY_SECRET: Final = "canary-guard-Kp55-secret-of-32-letters"
PROMPT: Final = "canary prompt Hj63 wonderful"
WRONG_KEY: Final = "fb_live_canaryWrongKeyRt28xxxxxxxxxxxxxxxxxxxxxxxxxx"
IN_QUERY: Final = "canary-in-query-Bn90"
MISPLACED: Final = "canary misplaced Fy26 " + "y" * 500
"""A text where a name or one of a few words has to be: what is wrong is named, but not whole."""
MISPLACED_CHARACTERS_MAX: Final = 100
COOKIE: Final = "canary-cookie-Ws31"


@dataclass(kw_only=True)
class Seen:
    """All that was said, by where."""

    secrets: dict[str, str]
    told: dict[str, bytes] = field(default_factory=dict)

    def hits(self) -> list[str]:
        """Return where a secret stands."""
        found = []
        for where, text in self.told.items():
            for name, secret in self.secrets.items():
                forms = {secret, secret.replace(" ", "%20"), json.dumps(secret)[1:-1]}
                forms.add(base64.b64encode(secret.encode()).decode().rstrip("=")[:-2])
                found += [f"{name} in {where}" for form in forms if form.encode() in text]
        return sorted(set(found))


def ask(
    server: Server, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, bytes]:
    request = urllib.request.Request(server.url + path, data=body, method=method)
    for name, value in headers.items():
        request.add_header(name, value)
    if body is not None:
        request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, str(error.headers).encode() + error.read()


def a_user_and_a_key(folder: Path) -> str:
    config = AccountsConfig(url=default_url(folder / "forebay"))
    database = Database(config)
    try:
        database.migrate()
        directory = Directory(database, config, now=time.time)
        directory.create_user("admin", role=Role.ADMIN, password=ADMIN_PASSWORD)
        directory.create_user("ann", role=Role.OPERATOR, password=USER_PASSWORD)
        return directory.create_key(NewKey(user="ann", scopes=RIGHTS[Role.OPERATOR]))[1]
    finally:
        database.close()


def environment() -> dict[str, str]:
    return {
        "FOREBAY_ACCESS__MODE": "closed",
        "FOREBAY_ACCESS__ADMIN_PASSWORD": ADMIN_PASSWORD,
        "FOREBAY_STORE__URL": f"redis://:{STORE_PASSWORD}@127.0.0.1:{free_port()}/0",
        "FOREBAY_GUARD__CANARY_SECRET": CANARY_SECRET,
    }


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Drive a server with every kind of request and error; keep all that it says."""
    folder = tmp_path_factory.mktemp("secrets")
    key = a_user_and_a_key(folder)
    seen = Seen(secrets={})
    with serving(folder, "--engine", "scripted", environment=environment()) as server:
        token = drive(server, seen, key)
        seen.secrets |= {
            "the API key": key,
            "a part of the API key": key[18:46],
            "the token": token,
            "the token's signature": token.rpartition(".")[2],
        }
        for pid in (server.process.pid, *descendants(server.process.pid)):
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                seen.told[f"command line of {command[:60]!r}"] = command
    seen.told["the log"] = server.log.read_bytes()
    for file in folder.rglob("*"):
        if file.is_file() and file != server.log:
            seen.told[f"file {file.relative_to(folder)}"] = file.read_bytes()
    own = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")} | environment()
    for words in (["config"], ["config", "--json"], ["audit"], ["users", "list"], ["keys", "list"]):
        done = subprocess.run(
            [sys.executable, "-m", "forebay", *words],
            env=own | {"XDG_STATE_HOME": str(folder)},
            capture_output=True,
            check=False,
            timeout=60,
        )
        seen.told[f"forebay {' '.join(words)}"] = done.stdout + done.stderr
    seen.secrets |= {
        "the admin's password": ADMIN_PASSWORD,
        "a user's password": USER_PASSWORD,
        "a wrong password": WRONG_PASSWORD,
        "the store's password": STORE_PASSWORD,
        "the guard's secret": CANARY_SECRET,
        "a prompt and its completion": PROMPT,
        "all of a misplaced text": MISPLACED[:MISPLACED_CHARACTERS_MAX],
        "a wrong key": WRONG_KEY,
        "what stood in a query": IN_QUERY,
        "a cookie": COOKIE,
    }
    return seen


CHAT: Final = {"model": "scripted", "messages": [{"role": "user", "content": PROMPT}]}


def misplaced(
    server: Server, good: dict[str, str], wrong: dict[str, str]
) -> dict[str, tuple[int, bytes]]:
    """Send requests that are wrong in what they say, whole and cut, by somebody and by nobody."""
    told = {}
    bad: dict[str, object] = {
        "an unknown field": CHAT | {MISPLACED: 1},
        "an unknown value": CHAT | {"response_format": {"type": MISPLACED}},
        "an unknown model": CHAT | {"model": MISPLACED[:200]},
        "an unknown role": {"model": "scripted", "messages": [{"role": MISPLACED, "content": "x"}]},
        "a wrong type": CHAT | {"max_tokens": PROMPT},
        "a prompt that is too long": CHAT
        | {"messages": [{"role": "user", "content": PROMPT * 9999}]},
    }
    for what, body_ in bad.items():
        sent = json.dumps(body_).encode()
        _, answer = ask(server, "POST", "/v1/chat/completions", sent, good)
        told[what] = (0, answer)
        told[f"{what}, cut"] = ask(server, "POST", "/v1/chat/completions", sent[:-1], good)
        told[f"{what}, by nobody"] = ask(server, "POST", "/v1/chat/completions", sent, wrong)
    return told


def drive(server: Server, seen: Seen, key: str) -> str:
    """Send every kind of request; return the token that a login gave."""
    good = {"authorization": f"Bearer {key}", "cookie": f"session={COOKIE}"}
    wrong = {"authorization": f"Bearer {WRONG_KEY}"}

    def login(name: str, password: str) -> tuple[int, bytes]:
        body = json.dumps({"username": name, "password": password}).encode()
        return ask(server, "POST", "/auth/login", body, {})

    status, answer = login("ann", USER_PASSWORD)
    assert status == 200, answer
    token = str(json.loads(answer)["access_token"])
    status, answer = login("admin", ADMIN_PASSWORD)
    assert status == 200, answer
    admin = {"authorization": f"Bearer {json.loads(answer)['access_token']}"}
    told = {
        "a wrong password": login("ann", WRONG_PASSWORD),
        "nobody's password": login(f"nobody-{WRONG_PASSWORD}", WRONG_PASSWORD),
        "a login that is none": ask(
            server, "POST", "/auth/login", json.dumps({"password": WRONG_PASSWORD}).encode(), {}
        ),
    }
    for stream in (True, False):
        body = json.dumps(CHAT | {"max_tokens": 20, "stream": stream}).encode()
        status, answer = ask(server, "POST", "/v1/chat/completions", body, good)
        assert status == 200
        assert b"Hj63" in answer, (
            "the engine says what it was told, so the completion holds it, too"
        )
    told |= misplaced(server, good, wrong)
    for path in ("/metrics", "/prometheus", "/health", "/status", "/admin/ledger", "/admin/models"):
        told[path] = ask(server, "GET", f"{path}?api_key={IN_QUERY}", None, good)
    for path in (
        "/admin/users",
        "/admin/keys",
        "/admin/audit",
        "/v1/usage",
        "/auth/me",
        "/nothing",
    ):
        told[path] = ask(server, "GET", f"{path}?token={IN_QUERY}", None, admin)
    told["a token"] = ask(server, "GET", "/v1/models", None, {"authorization": f"Bearer {token}"})
    told["a changed token"] = ask(
        server, "GET", "/v1/models", None, {"authorization": f"Bearer {token}x"}
    )
    basic = base64.b64encode(f"ann:{USER_PASSWORD}".encode()).decode()
    told["Basic"] = ask(server, "GET", "/v1/models", None, {"authorization": f"Basic {basic}"})
    both = {"authorization": f"Bearer {key}", "x-api-key": WRONG_KEY}
    told["two"] = ask(server, "GET", "/v1/models", None, both)
    seen.told |= {f"the answer to {what}": body for what, (_, body) in told.items()}
    return token


@pytest.mark.slow
def test_no_secret_is_anywhere_but_where_it_was_put(seen: Seen) -> None:
    assert len(seen.told) > 40
    assert len(seen.secrets) >= 12
    assert not seen.hits()


@pytest.mark.slow
def test_a_secret_that_stood_somewhere_would_be_found(seen: Seen) -> None:
    for name, secret in seen.secrets.items():
        told = {"a place": b"before " + secret.encode() + b" after"}
        assert f"{name} in a place" in Seen(secrets=seen.secrets, told=told).hits()


@pytest.mark.slow
def test_a_database_that_cannot_be_reached_is_told_without_its_address(tmp_path: Path) -> None:
    secret = "canary-database-Gx12"
    own = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
    own |= {
        "XDG_STATE_HOME": str(tmp_path),
        "FOREBAY_ACCESS__MODE": "closed",
        "FOREBAY_ACCOUNTS__URL": f"postgresql+psycopg://ann:{secret}@127.0.0.1:{free_port()}/x",
    }
    for words in (["serve", "--engine", "scripted", "--port", str(free_port())], ["users", "list"]):
        done = subprocess.run(
            [sys.executable, "-m", "forebay", *words],
            env=own,
            capture_output=True,
            check=False,
            timeout=90,
        )
        assert done.returncode != 0
        assert secret.encode() not in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr
