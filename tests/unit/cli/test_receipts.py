"""`forebay receipt`: what is drawn, and what is said where there is nothing to draw."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from forebay.cli.main import app as command_line
from forebay.monitoring import site as sites
from forebay.monitoring.site import Answer, Site, Unanswered

RECEIPT: dict[str, Any] = {
    "id": "r1",
    "began_at": "2026-11-22T02:00:00.000+00:00",
    "route": "completions",
    "model": "m\x1b[31m\rx",
    "outcome": "timed_out",
    "status": 504,
    "total_ms": 1_000.0,
    "ended_in": "decode",
    "loop_stall_ms": 0.5,
    "parts": [
        {"part": "queue", "start_ms": 0.0, "duration_ms": 250.0},
        {"part": "prefill", "start_ms": 250.0, "duration_ms": 250.0},
        {"part": "decode", "start_ms": 500.0, "duration_ms": 500.0},
    ],
    "first_token": {"actual_ms": 500.0, "forecast_ms": None},
    "tokens": {"prompt": 5, "completion": 2},
    "cost": "0.25",
    "body_bytes": 10,
    "answer_bytes": 20,
    "decisions": {"cache": "miss", "workers": [0, 1], "failovers": ["exited"]},
    "tenant": "acme",
    "user": None,
    "part_of": None,
    "items": None,
    "error": "The deadline passed.",
}


class Played:
    """Answers each question with what the test says, and notes what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.status, self.said = 200, json.dumps(RECEIPT).encode()
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []
        self.away = False

        def get(site: Site, path: str) -> Answer:
            if self.away:
                raise Unanswered("Nobody listens at there.")
            self.asked.append((site.place, path, site.headers))
            return Answer(status=self.status, headers={}, body=self.said)

        monkeypatch.setattr(sites.Site, "get", get)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    monkeypatch.delenv("FOREBAY_KEY", raising=False)
    return Played(monkeypatch)


def run(*words: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(command_line, ["receipt", *words])
    return found.exit_code, found.stdout, found.stderr


def test_each_part_is_a_bar_where_it_lies_in_the_whole(played: Played) -> None:
    status, shown, _ = run("r1")
    assert status == 0
    assert played.asked[0][:2] == ("127.0.0.1:8000", "/v1/requests/r1")
    bars = {line.split()[0]: line[11:59] for line in shown.splitlines() if "█" in line}
    assert {name: (bar.index("█"), bar.count("█")) for name, bar in bars.items()} == {
        "queue": (0, 12),
        "prefill": (12, 12),
        "decode": (24, 24),
    }


def test_what_was_decided_and_what_it_cost_is_said(played: Played) -> None:
    _, shown, _ = run("r1")
    for words in (
        "timed_out 504 after 1,000.00 ms, ended in decode",
        "exited",
        "0, 1",
        "500.00 ms; forecast at the door: unknown",
        "5 prompt, 2 completion",
        "0.25",
        "The deadline passed.",
    ):
        assert words in shown
    assert "m?[31m?x" in shown  # a model's name steers no terminal


def test_json_is_what_the_server_said(played: Played) -> None:
    assert json.loads(run("r1", "--json")[1]) == RECEIPT


def test_a_key_is_shown_to_the_server(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_KEY", "fb_live_x")
    run("r1", "--url", "https://llm.example.org/")
    place, _, headers = played.asked[0]
    assert (place, headers) == ("llm.example.org:443", {"Authorization": "Bearer fb_live_x"})


def test_an_id_is_one_piece_of_the_path(played: Played) -> None:
    run("../admin/ledger?x")
    assert played.asked[0][1] == "/v1/requests/..%2Fadmin%2Fledger%3Fx"


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (404, b'{"error":{"message":"No request of that id."}}', "No request of that id."),
        (401, b'{"error":{"message":"Send an API key."}}', "Set FOREBAY_KEY"),
        (500, b"[]", "answers 500"),
        (200, b'{"hello":1}', "has no receipts"),
        (200, b"<html>", "not JSON"),
    ],
)
def test_a_server_without_a_receipt_is_said_so(
    played: Played, status: int, said: bytes, words: str
) -> None:
    played.status, played.said = status, said
    code, shown, told = run("r1")
    assert (code, shown) == (1, "")
    assert words in told


def test_a_server_that_is_away_and_an_address_that_is_none_are_told_apart(played: Played) -> None:
    played.away = True
    assert run("r1")[0] == 1
    code, _, told = run("r1", "--url", "ftp://x")
    assert code == 2
    assert "--url" in told


def test_the_documented_commands_are_understood(played: Played) -> None:
    for words in (["4f1c6a52d0e94a7bb3c1"], ["4f1c6a52d0e94a7bb3c1", "--json"]):
        assert run(*words)[0] == 0
    assert len(played.asked) == 2
