"""What docs/container.md promises of the image, as far as its recipe shows it."""

import json
import re
from collections.abc import Iterator
from typing import Final

import pytest

from forebay import __version__
from tests.tidy.source import read, report

RECIPE: Final = "deploy/docker/Dockerfile"
LISTS: Final = frozenset({"CMD", "ENTRYPOINT"})
SECRETS: Final = re.compile(r"(?i)\b\w*(password|passwd|secret|token|api_?key)\w*\s*[= ]")
GOOD: Final = """
ARG BASE=python:3.11
FROM ${BASE} AS build
RUN --mount=type=secret,id=pip \\
    pip install --require-hashes -r x
FROM ${BASE}
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python3"]
ENTRYPOINT ["tini", "--", "forebay"]
CMD ["serve"]
"""


def steps(text: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments, each on one line."""
    plain = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    pairs = (line.partition(" ") for line in plain.splitlines() if line.strip())
    return [(word, re.sub(r"\s+", " ", rest).strip()) for word, _, rest in pairs]


def last_stage(found: list[tuple[str, str]]) -> dict[str, str]:
    """The last word on each instruction in the stage that is run."""
    stage: dict[str, str] = {}
    for word, rest in found:
        stage = {} if word == "FROM" else stage | {word: rest}
    return stage


def broken(text: str) -> Iterator[str]:
    """Promises that a Dockerfile does not keep."""
    found = steps(text)
    stage = last_stage(found)
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage.get("USER", "")):
        yield "USER: the last stage runs as a numbered user that is not root"
    if not stage.get("ENTRYPOINT", "").startswith('["tini", "--", "forebay"'):
        yield "ENTRYPOINT: tini is process 1, for signals and orphans"
    if stage.get("STOPSIGNAL") != "SIGTERM":
        yield "STOPSIGNAL: SIGTERM is what drains"
    if "HEALTHCHECK" not in stage:
        yield "HEALTHCHECK: there is none"
    yield from unlisted(found)
    yield from unpinned(found)
    yield from leaking(found)


def unlisted(found: list[tuple[str, str]]) -> Iterator[str]:
    """Commands that a shell would stand before, eating signals."""
    for word, rest in found:
        command = rest.partition("CMD ")[2] if word == "HEALTHCHECK" else rest
        if word in LISTS or word == "HEALTHCHECK":
            try:
                json.loads(command)
            except ValueError:
                yield f"{word}: it is a JSON list, so that no shell stands between"


def unpinned(found: list[tuple[str, str]]) -> Iterator[str]:
    """Bases without a version, and packages without a hash."""
    named = dict(rest.split("=", 1) for word, rest in found if word == "ARG" and "=" in rest)
    for word, rest in found:
        if word == "FROM":
            base = re.sub(r"\$\{(\w+)\}", lambda name: named.get(name[1], ""), rest).split()[0]
            if not re.search(r"[:@][^/]*$", base) or base.endswith(":latest"):
                yield f"FROM {rest}: a base names its version, and not latest"
        if "pip install" in rest and not re.search(r"--require-hashes|--no-index", rest):
            yield f"{word} {rest}: what is fetched is held to its hash"


def leaking(found: list[tuple[str, str]]) -> Iterator[str]:
    """What may carry a secret into a layer, and what gives rights away."""
    for word, rest in found:
        if word in {"ARG", "ENV", "LABEL"} and SECRETS.search(rest + " "):
            yield f"{word} {rest}: layers keep no secrets; mount one with --mount=type=secret"
        if word == "ADD":
            yield f"ADD {rest}: COPY says what it takes"
        if word == "ENV" and "INSECURE_PUBLIC" in rest:
            yield "ENV: whoever runs the image consents to strangers, not the image"


def test_the_image_keeps_its_promises() -> None:
    report(f"{RECIPE}: {offence}" for offence in broken(read(RECIPE)))


def test_the_build_sees_only_what_is_named() -> None:
    lines = [line for line in read(".dockerignore").splitlines() if line[:1] not in {"", "#"}]
    assert lines[0] == "*"
    copied = [rest for word, rest in steps(read(RECIPE)) if word == "COPY" and "--from" not in rest]
    taken = {source for rest in copied for source in rest.split()[:-1]}
    assert taken == {line.removeprefix("!") for line in lines if line.startswith("!")}


def test_the_document_names_the_image_that_make_builds() -> None:
    assert set(re.findall(r"\bforebay:(\d\S*)", read("docs/container.md"))) == {__version__}


def test_the_rule_lets_a_good_recipe_pass() -> None:
    assert not list(broken(GOOD))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("USER 10001:10001", "USER root"),
        ("USER 10001:10001", "USER 0:0"),
        ("USER 10001:10001\n", ""),
        ('["tini", "--", "forebay"]', "forebay"),
        ('["tini", "--", "forebay"]', '["forebay"]'),
        ('CMD ["serve"]', "CMD serve"),
        ('HEALTHCHECK CMD ["python3"]', "HEALTHCHECK CMD curl localhost"),
        ('HEALTHCHECK CMD ["python3"]\n', ""),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL"),
        ("python:3.11", "python:latest"),
        ("python:3.11", "example.com:5000/python"),
        ("--require-hashes", "--upgrade"),
        ("STOPSIGNAL", "ENV API_KEY=x\nSTOPSIGNAL"),
        ("STOPSIGNAL", "ADD x y\nSTOPSIGNAL"),
        ("STOPSIGNAL", "ENV FOREBAY_SERVER__INSECURE_PUBLIC=true\nSTOPSIGNAL"),
    ],
)
def test_the_rule_sees_a_broken_promise(good: str, bad: str) -> None:
    assert good in GOOD
    assert list(broken(GOOD.replace(good, bad)))
