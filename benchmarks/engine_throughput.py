"""What is left of the engine's speed behind Forebay: 32 streams over HTTP, and bare.

Both sides load the same artefact with the same settings, each in its own process; trials
alternate (HTTP, bare, HTTP, bare ...) and each pair has prompts of its own, so that no prefix
cache helps.  The ratio is taken pair by pair, because the machine's own speed drifts.
"""

import json
import random
import sys
from typing import Any, Final

import uvloop

from benchmarks import machine, processes
from benchmarks.processes import Bare, Server
from forebay.bench.client import Call, ClosedLoop, Sample
from forebay.bench.stats import median, percentile
from forebay.engine.manifest import Form
from forebay.models.catalogue import DEFAULT, resolve
from forebay.models.preparation import prepare
from forebay.settings.sections import ModelConfig

STREAMS: Final = 32
PROMPT_TOKENS: Final = 64
NEW_TOKENS: Final = 64
SINGLES: Final = 8
"""Requests one at a time, in each trial, for the time to first token."""
_SEED: Final = 2
_IDS: Final = range(1_000, 40_000)
"""Ordinary tokens of the default model; control tokens stand below."""

_ANEW: Final = ("cache.enabled=false", "replay.coalesce=false")
"""Greedy answers would be kept and shared: here each is to be made."""


def run(trials: int) -> dict[str, Any]:
    """Measure; return the raw result."""
    cache = ModelConfig().folder()
    artefact = prepare(resolve(DEFAULT), form=Form.OPENVINO, cache=cache, progress=lambda _: None)
    words = [sys.executable, "-m", "benchmarks.bare_engine", str(artefact.path)]
    source = random.Random(_SEED)  # noqa: S311 - prompts, not secrets
    result: dict[str, Any] = {"machine": machine.facts(), "trials": trials}
    with (
        processes.bare(words) as (bare, _),
        processes.forebay("openvino", settings=_ANEW) as server,
    ):
        bare(prompts(source, 4), NEW_TOKENS)
        _streamed(server, prompts(source, 4))
        result["pairs"] = [_pair(server, bare, source) for _ in range(trials)]
        own, workers = server.own(), server.workers()
        result["rss_mb"] = {"gateway": own.rss_bytes / 1e6, "worker": workers.rss_bytes / 1e6}
    result["start_to_first_token_s"] = [_start_to_first_token(source) for _ in range(trials)]
    return result


def report(result: dict[str, Any]) -> str:
    """Return the result as a table."""
    pairs = result["pairs"]
    ratios = [pair["http"]["tokens_per_s"] / pair["bare"]["tokens_per_s"] for pair in pairs]
    first = {
        side: median([1000 * value for pair in pairs for value in pair[side]["single_first_s"]])
        for side in ("http", "bare")
    }
    many = {
        side: median([1000 * percentile(pair[side]["first_s"], 0.5) for pair in pairs])
        for side in ("http", "bare")
    }
    speed = {side: [pair[side]["tokens_per_s"] for pair in pairs] for side in ("http", "bare")}
    rows = [
        [f"{STREAMS} streams, {PROMPT_TOKENS} + {NEW_TOKENS} tokens", "HTTP", "bare", "goal"],
        [
            "tokens/s, median (range)",
            *(
                f"{median(found):,.0f} ({min(found):,.0f}-{max(found):,.0f})"
                for found in speed.values()
            ),
            "-",
        ],
        [
            "ratio by pair, median (range)",
            f"{median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})",
            "1",
            "0.90",
        ],
        ["TTFT ms, all at once, p50", f"{many['http']:.0f}", f"{many['bare']:.0f}", "-"],
        [
            "TTFT ms, one at a time, median",
            f"{first['http']:.1f}",
            f"{first['bare']:.1f}",
            f"+8 (is {first['http'] - first['bare']:+.1f})",
        ],
        ["gateway RSS MB", f"{result['rss_mb']['gateway']:.0f}", "-", "150"],
        ["worker RSS MB", f"{result['rss_mb']['worker']:.0f}", "-", "-"],
        ["start to first token s", f"{median(result['start_to_first_token_s']):.1f}", "-", "6"],
    ]
    return machine.table("Behind Forebay, and bare", rows)


def prompts(source: random.Random, count: int) -> list[list[int]]:
    """Return distinct prompts of token ids."""
    return [[source.choice(_IDS) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


def _pair(server: Server, bare: Bare, source: random.Random) -> dict[str, Any]:
    together, singles = prompts(source, STREAMS), prompts(source, SINGLES)
    samples = _streamed(server, together)
    took_s = max(s.ended for s in samples) - min(s.sent for s in samples)
    made = sum(_tokens_of(sample) for sample in samples)
    assert made == STREAMS * NEW_TOKENS, f"{made} tokens"
    alone = bare(together, NEW_TOKENS)
    assert alone["tokens"] == made
    http_single, bare_single = [], []
    for prompt in singles:
        (sample,) = _streamed(server, [prompt], tokens=4)
        http_single.append(sample.first_s)
        bare_single.append(bare([prompt], 4)["first_s"][0])
    return {
        "http": {
            "tokens_per_s": made / took_s,
            "first_s": [sample.first_s for sample in samples],
            "single_first_s": http_single,
        },
        "bare": {
            "tokens_per_s": alone["tokens"] / alone["seconds"],
            "first_s": alone["first_s"],
            "single_first_s": bare_single,
        },
    }


def _streamed(server: Server, wanted: list[list[int]], *, tokens: int = NEW_TOKENS) -> list[Sample]:
    calls = [
        Call(
            path="/v1/completions",
            body=json.dumps(
                {
                    "model": DEFAULT,
                    "prompt": prompt,
                    "max_tokens": tokens,
                    "temperature": 0,
                    "ignore_eos": True,
                    "stream": True,
                    "stream_options": {"include_usage": True},
                }
            ).encode(),
            stream=True,
        )
        for prompt in wanted
    ]
    loop = ClosedLoop(server.target, requests_max=len(calls))
    samples = uvloop.run(loop.run(calls))
    bad = [sample for sample in samples if not sample.ok]
    assert not bad, bad[0]
    return samples


def _tokens_of(sample: Sample) -> int:
    found: int = json.loads(sample.last_event.removeprefix(b"data: "))["usage"]["completion_tokens"]
    return found


def _start_to_first_token(source: random.Random) -> float:
    with processes.forebay("openvino") as server:
        (sample,) = _streamed(server, prompts(source, 1), tokens=1)
        assert sample.first_s is not None
        return server.ready_s + sample.first_s
