"""The benchmarks still run, and their tables say what they measured."""

import random
from typing import Any

import pytest

from benchmarks import engine_throughput, engines_report, machine, overhead, upstream


@pytest.mark.slow
def test_the_overhead_benchmark_measures_and_reports() -> None:
    result = overhead.run(overhead.Plan(trials=1, seconds=0.2))
    text = overhead.report(result)
    assert "LiteLLM" in text
    trials = [*result["closed_loop"].values(), result["paced"]]
    requests = sum(trial["requests"] for found in trials for trial in found)
    forebays = [name for name in result["closed_loop"] if name.startswith("forebay")]
    assert len(forebays) == 2 * len(overhead.CONNECTIONS)
    assert requests > 100
    whole = sum(result["closed_loop"][name][0]["requests"] for name in forebays)
    assert result["log_lines"] > whole, "the request log was on"
    assert {"processor", "commit", "command", "load_average"} <= result["machine"].keys()


@pytest.mark.slow
def test_the_upstream_benchmark_measures_and_reports() -> None:
    result = upstream.run(overhead.Plan(trials=1, seconds=0.2))
    text = upstream.report(result)
    assert "LiteLLM" in text
    assert result["log_lines"] > result["closed_loop"]["forebay whole c=10"][0]["requests"]
    assert result["closed_loop"].keys() == {
        f"{name} {kind} c={connections}"
        for name in ("forebay", "direct")
        for kind in ("whole", "streams")
        for connections in upstream.CONNECTIONS
    }
    assert 0 < upstream.cpu_us(result, "whole") < 5_000
    assert 0 < upstream.paced_us(result) < 5_000


def test_the_ratio_is_taken_pair_by_pair() -> None:
    def side(speed: float) -> dict[str, Any]:
        return {"tokens_per_s": speed, "first_s": [0.5] * 3, "single_first_s": [0.04] * 3}

    pairs = [{"http": side(speed * 0.95), "bare": side(speed)} for speed in (400.0, 1000.0, 200.0)]
    result = {
        "pairs": pairs,
        "rss_mb": {"gateway": 60.0, "worker": 900.0},
        "start_to_first_token_s": [4.0],
    }
    assert "0.950 (0.950-0.950)" in engine_throughput.report(result)
    assert "380 (190-950)" in engine_throughput.report(result)


def a_row(speed: float, *, peer: bool, bare: float = 0.0) -> dict[str, Any]:
    trial: dict[str, Any] = {
        part: {"tokens_per_s": speed / share}
        for part, share in (("32", 1), ("16", 1.5), ("8", 2), ("single", 8))
    }
    trial["single_first_s"] = [0.05]
    if bare:
        trial["bare"] = {"tokens_per_s": bare}
    return {"peer": peer, "trials": [trial], "rss_mb": {"engine": 900.0}, "start_s": 4.0}


def an_engines_result(ours: float, theirs: float) -> dict[str, Any]:
    return {
        "machine": {"date": "2026-11-21T21:00:00", "cores": 2, "processor": "P"},
        "prompt_tokens": 64,
        "new_tokens": 64,
        "rows": {
            "openvino": a_row(ours, peer=False, bare=ours * 1.1),
            "a peer": a_row(theirs, peer=True),
            "another": {"peer": True, "trials": [], "skipped": "without its library"},
        },
    }


def test_the_engines_gates_compare_with_the_best_peer_and_with_bare() -> None:
    text = engines_report.report(an_engines_result(ours=600.0, theirs=250.0))
    assert "| openvino against the best peer (a peer), 32 streams | 2.40 | 2.00 | pass |" in text
    assert "| openvino of bare, 32 streams | 0.909 | 0.95 | **fail** |" in text
    assert "- another: without its library" in text
    slower = engines_report.report(an_engines_result(ours=400.0, theirs=250.0))
    assert "| 1.60 | 2.00 | **fail** |" in slower


def test_the_fastest_engine_has_the_first_line_and_the_longest_bar() -> None:
    text = engines_report.report(an_engines_result(ours=600.0, theirs=300.0))
    assert text.index("| **openvino**") < text.index("| a peer")
    assert f"{'openvino':<20} {'█' * 40} 600" in text
    assert f"{'a peer':<20} {'█' * 20} 300" in text


def test_a_result_is_written_between_the_documents_marks_and_nowhere_else() -> None:
    document = "before\n<!-- engines: begin; x -->\n\nold\n\n<!-- engines: end -->\nafter\n"
    result = an_engines_result(ours=600.0, theirs=300.0)
    once = engines_report.written(document, result, "file.json")
    assert once.startswith("before\n<!-- engines: begin; x -->\n\n**2026-11-21")
    assert once.endswith("(../benchmarks/results/file.json).\n\n<!-- engines: end -->\nafter\n")
    assert "old" not in once
    assert engines_report.written(once, result, "file.json") == once


def test_prompts_are_distinct_and_of_the_length_asked() -> None:
    found = engine_throughput.prompts(random.Random(1), 50)
    assert {len(prompt) for prompt in found} == {engine_throughput.PROMPT_TOKENS}
    assert len(set(map(tuple, found))) == 50


def test_a_table_has_a_head_and_a_line_for_each_row() -> None:
    assert machine.table("T", [["a", "b"], ["1", "2"]]) == (
        "\n**T**\n\n| a | b |\n| --- | --: |\n| 1 | 2 |"
    )
