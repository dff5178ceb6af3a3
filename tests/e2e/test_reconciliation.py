"""Every reader of requests counts the same, to the last one.

Real clients of a real server: some get answers, some are turned away, some leave, some err.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.client import chat_body, post
from tests.support.server import Server, serving

CHAT: Final = "/v1/chat/completions"
WAIT_S_MAX: Final = 5.0
OPTIONS: Final = (
    *("--engine", "scripted", "--set", "scripted.decode_s=0.002"),
    *("--set", "admission.running_max=2", "--set", "admission.waiting_max=3"),
    *("--set", "metrics.sample_s=0.2"),
)
ALONE: Final = ("chat_completions", "completions", "infer", "generate", "unmatched")
"""Routes of which each exchange is one request."""


@dataclass(frozen=True)
class Books:
    """What each reader says of the same requests."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    ledger: dict[str, Any]
    lines: list[dict[str, Any]]

    def sums(self, name: str, *by: str, **where: str) -> dict[Any, int]:
        """Return a metric's samples added up by labels, without what is 0."""
        found: Counter[Any] = Counter()
        for (sample, pairs), value in self.samples.items():
            labels = dict(pairs)
            if sample == name and where.items() <= labels.items():
                key = tuple(labels[label] for label in by)
                found[key[0] if len(key) == 1 else key] += int(value)
        return dict(+found)


def a_reading(server: Server) -> Books:
    """Read everything, once the log's lines are written."""
    page, ledger = server.get("/metrics")[1], json.loads(server.get("/admin/ledger")[1])
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    until(lambda: len(requests_of(server)) >= sum(ledger["outcomes"].values()))
    return Books(samples=samples, ledger=ledger, lines=requests_of(server))


def requests_of(server: Server) -> list[dict[str, Any]]:
    return [line for line in server.log_lines() if line.get("event.dataset") == "forebay.request"]


def until(found: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not found():
        assert time.monotonic() - began < WAIT_S_MAX, "it never came"
        time.sleep(0.02)


def at_rest(server: Server) -> bool:
    """Whether the only exchange is the one that asks."""
    return (
        server.metric("forebay_http_requests_in_progress") == 1
        and server.metric("llm_requests_running") == 0
    )


async def traffic(server: Server) -> None:
    """Let clients be served, refused, shed and lost, in turns and at once."""

    def said(**fields: Any) -> dict[str, Any]:
        return chat_body("scripted", "one two three four", max_tokens=6, **fields)

    async def leave(body: dict[str, Any], bytes_max: int) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await post(server.port, CHAT, body, bytes_max)

    for stream in (True, False, True):
        assert (await post(server.port, CHAT, said(stream=stream))).status == 200
    await asyncio.gather(*(post(server.port, CHAT, said(n=1)) for _ in range(30)))
    long = said(stream=True) | {"max_tokens": 3_000, "ignore_eos": True}
    for bytes_max in (1, 300, 900):
        await leave(long, bytes_max)
    await post(server.port, "/v1/completions", {"model": "scripted", "prompt": "x"})
    for path in ("/infer", "/generate"):
        await post(server.port, path, {"prompt": "one two", "max_tokens": 3})
    await post(server.port, "/generate_batch", {"prompts": ["a", "b", "c"], "max_tokens": 2})
    await post(server.port, CHAT, said() | {"model": "nobody"})
    await post(server.port, CHAT, b"{no json")
    await post(server.port, CHAT, chat_body("scripted", "!fail", max_tokens=2))
    await post(server.port, "/nowhere", {})
    for path in (CHAT, "/nowhere/else", "/livez", "/v1/models", "/v1/models/nobody"):
        await asyncio.to_thread(server.get, path)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    with serving(tmp_path_factory.mktemp("books"), *OPTIONS) as server:
        asyncio.run(traffic(server))
        until(lambda: at_rest(server))
        yield a_reading(server)


def test_traffic_of_every_kind_was_there(books: Books) -> None:
    outcomes = books.sums("llm_requests_total", "outcome")
    expected = {"ok", "overloaded", "cancelled", "invalid", "unknown_model", "engine_error"}
    assert expected <= outcomes.keys()
    assert outcomes["ok"] >= 10


def test_metrics_count_each_outcome_as_the_ledger_does(books: Books) -> None:
    assert books.ledger["balanced"]
    assert books.ledger["in_flight"] == 0
    counted = {name: count for name, count in books.ledger["outcomes"].items() if count}
    assert books.sums("llm_requests_total", "outcome") == counted


def test_there_is_a_line_of_the_log_for_each_request_with_the_same_ending(books: Books) -> None:
    lines = Counter((line["event.action"], line.get("error.type", "ok")) for line in books.lines)
    assert books.sums("llm_requests_total", "route", "outcome") == dict(lines)


@pytest.mark.parametrize("route", ALONE)
def test_where_an_exchange_is_a_request_both_are_counted_alike(books: Books, route: str) -> None:
    requests = books.sums("llm_requests_total", "route", route=route)
    assert requests[route] > 0
    assert books.sums("forebay_http_requests_total", "route", route=route) == requests
    for name in ("request_duration_seconds", "request_size_bytes", "response_size_bytes"):
        counted = books.sums(f"forebay_http_{name}_count", "route", route=route)
        assert counted == requests


def test_a_batch_is_one_exchange_and_each_of_its_requests(books: Books) -> None:
    where = {"route": "generate_batch"}
    assert books.sums("llm_requests_total", "outcome", **where) == {"ok": 3}
    assert books.sums("forebay_http_requests_total", "method", "status", **where) == {
        ("POST", "2xx"): 1
    }


def test_those_that_were_told_503_are_those_that_were_shed(books: Books) -> None:
    where = {"route": "chat_completions"}
    told = books.sums("forebay_http_requests_total", "status", **where)["5xx"]
    outcomes = books.sums("llm_requests_total", "outcome", **where)
    ours = ("overloaded", "expired", "engine_error")
    assert told == sum(outcomes.get(outcome, 0) for outcome in ours)


def test_the_objective_of_availability_has_judged_each_request_that_it_counts(
    books: Books,
) -> None:
    outcomes = books.sums("llm_requests_total", "outcome")
    bad = ("overloaded", "expired", "timed_out", "engine_error", "internal_error")
    judged: Counter[str] = Counter()
    for work in ("interactive", "batch"):
        judged.update(books.sums("llm_slo_events_total", "result", slo=f"availability_{work}"))
    assert judged == {
        "good": outcomes["ok"],
        "bad": sum(outcomes.get(outcome, 0) for outcome in bad),
    }


def test_histograms_hold_each_request_once(books: Books) -> None:
    outcomes = books.sums("llm_requests_total", "outcome")
    durations = books.sums("llm_request_duration_seconds_count", "objective")
    assert sum(durations.values()) == sum(outcomes.values())
    assert durations["good"] == outcomes["ok"]
