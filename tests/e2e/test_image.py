"""The image that `make image` built, run with the command of docs/container.md."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import Server, free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """A running container: the program that runs it, its name, and the server in it."""

    builder: str
    name: str
    server: Server

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return subprocess.run(
            [self.builder, "exec", self.name, *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )


def documented() -> list[str]:
    """Return the words of the command that runs the image."""
    text = (ROOT / "docs/container.md").read_text(encoding="utf-8")
    found = re.search(r"^docker run .*?[^\\]\n", text, re.MULTILINE | re.DOTALL)
    assert found, "docs/container.md shows no docker run"
    return shlex.split(found.group().replace("\\\n", " "))


def builder_with(image: str) -> str | None:
    """Return the program that has the image, or None."""
    for builder in filter(shutil.which, ("podman", "docker")):
        asked = subprocess.run([builder, "inspect", image], check=False, capture_output=True)
        if asked.returncode == 0:
            return builder
    return None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Contained]:
    """Run the documented command, with an engine that needs no model and a port of its own."""
    _, run, *options, image = documented()
    builder = builder_with(image)
    if builder is None:
        pytest.skip(f"{image} is not built: run `make image` with podman or docker")
    port, log = free_port(), folder / "server.log"
    name = f"forebay-test-{port}"
    given = {"forebay": name, "forebay-models:/var/cache/forebay": "/var/cache/forebay"}
    # podman's health checks need systemd; ours is asked for by hand below.
    options = [given.get(word, word) for word in options] + ["--no-healthcheck"]
    options += ["--env", f"FOREBAY_SERVER__PORT={port}", "--env", "FOREBAY_LOG__FORMAT=json"]
    command = [builder, run, *options, image, "serve", "--engine", "scripted"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    server = Server(process=process, port=port, log=log)
    try:
        server.until_ready()
        yield Contained(builder=builder, name=name, server=server)
    finally:
        if process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def contained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contained]:
    """One container for the tests that only look."""
    with running(tmp_path_factory.mktemp("image")) as found:
        yield found


def test_it_completes_a_request(contained: Contained) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        contained.server.url + "/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["choices"][0]["finish_reason"] == "stop"


def test_it_runs_as_nobody_with_no_rights(contained: Contained) -> None:
    status = contained.inside("cat", "/proc/1/status").stdout
    assert re.search(r"^Uid:\s+10001\s+10001", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


def test_it_writes_to_its_models_and_nowhere_else(contained: Contained) -> None:
    assert contained.inside("touch", "/var/cache/forebay/probe").returncode == 0
    mounts = contained.inside("cat", "/proc/mounts").stdout
    assert re.search(r"^\S+ / \S+ ro\b", mounts, re.MULTILINE), "its root is writable"


def test_its_health_check_passes(contained: Contained) -> None:
    text = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^HEALTHCHECK .*? CMD (\[.*?\])$", text, re.MULTILINE | re.DOTALL)
    assert found
    asked = contained.inside(*json.loads(found.group(1).replace("\\\n", "")))
    assert asked.returncode == 0, asked.stderr


def test_the_documented_command_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    with running(tmp_path) as contained:
        assert contained.server.stop() == 0
        assert contained.server.log_lines()[-1]["message"] == "server.stopped"
