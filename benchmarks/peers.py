"""Other people's servers of the same weights, each as its own makers start it."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks import processes
from benchmarks.processes import Server
from forebay.engine.manifest import Form, load_verified

SEQUENCES: Final = 32
KV_TOKENS_EACH: Final = 512
START_S_MAX: Final = 180.0
_LLAMA: Final = f"""
import os, sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = int(sys.argv[-1])
params.n_parallel = {SEQUENCES}
params.n_ctx = {SEQUENCES * KV_TOKENS_EACH}
params.cache_ram_mib = 0
threads = len(os.sched_getaffinity(0))
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
threading.Event().wait()
"""
_OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server of somebody else's."""

    name: str
    engine: str
    """Our engine of the same library: its interpreter runs the peer, too."""
    form: Form
    needs: tuple[str, ...]
    """Modules, without which it cannot run."""
    by_text: bool = False
    """It takes prompts as text only, and knows no `ignore_eos`."""


PEERS: Final = (
    Peer(name="llama.cpp's server", engine="llamacpp", form=Form.GGUF, needs=("xllamacpp",)),
    Peer(
        name="transformers serve",
        engine="transformers",
        form=Form.SAFETENSORS,
        needs=("transformers", "torch", "fastapi", "uvicorn", "openai"),
        by_text=True,
    ),
    Peer(name="vllm serve", engine="vllm", form=Form.SAFETENSORS, needs=("vllm",)),
)


@contextmanager
def serving(peer: Peer, folder: Path, python: str = sys.executable) -> Iterator[tuple[Server, str]]:
    """Run a peer over a prepared folder until the body ends; also yields its model's name."""
    with _folder(folder) as readable, TemporaryDirectory(prefix="forebay-bench-") as spare:
        words, environ = _words(peer, readable, python)
        if peer.engine == "vllm":
            environ = {**environ, **_named(python, Path(spare))}
        served = processes.serving(words, "/health", environ=environ, start_s_max=START_S_MAX)
        with served as server:
            yield server, str(readable)


def body(peer: Peer | None, prompt: list[int] | str, *, tokens: int, model: str) -> dict[str, Any]:
    """Return a request for exactly `tokens` greedy tokens; `peer` None is Forebay."""
    asked: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
    }
    if peer is not None and peer.by_text:
        exact = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
        return {**asked, "generation_config": json.dumps(exact)}
    return {**asked, "ignore_eos": True, "stream_options": {"include_usage": True}}


def _words(peer: Peer, folder: Path, python: str) -> tuple[list[str], Mapping[str, str]]:
    beside = Path(python).with_name
    # The weights are bfloat16, and processors without it compute in it much slower.
    dtype = ["--dtype", "bfloat16" if "avx512_bf16" in _processor() else "float32"]
    match peer.engine:
        case "llamacpp":
            return [python, "-c", _LLAMA, str(folder / "model.gguf")], {}
        case "transformers":
            program = [str(beside("transformers")), "serve", str(folder)]
            return [*program, *dtype, "--device", "cpu", "--host", "127.0.0.1"], _OFFLINE
        case _:
            program = [str(beside("vllm")), "serve", str(folder)]
            limits = ["--max-num-seqs", str(SEQUENCES), "--max-model-len", str(KV_TOKENS_EACH)]
            eager = ["--enforce-eager", "--host", "127.0.0.1"]
            room = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_HOST_IP": "127.0.0.1"}  # GiB
            return [*program, *dtype, *limits, *eager], {**_OFFLINE, **room}


def _named(python: str, spare: Path) -> dict[str, str]:
    """Let the repackaging `vllm-cpu` find itself: it asks for a distribution named vllm."""
    found = [*Path(python).parent.parent.glob("lib/python*/site-packages/vllm*.dist-info")]
    if not found or any(path.name.startswith("vllm-") for path in found):
        return {}
    version = f"{found[0].name.removesuffix('.dist-info').partition('-')[2]}+cpu"
    facts = spare / f"vllm-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    return {"PYTHONPATH": str(spare)}


def _processor() -> set[str]:
    return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())


@contextmanager
def _folder(folder: Path) -> Iterator[Path]:
    """Give a prepared folder the one file that the libraries want and we do not keep."""
    manifest = load_verified(folder)
    texts = {id: text for text, id in manifest.special_tokens.items()}
    ends = [texts[id] for id in manifest.eos_token_ids if id in texts]
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": ends[0] if ends else ""}
    with TemporaryDirectory(prefix="forebay-bench-") as name:
        made = Path(name)
        for file in folder.iterdir():
            (made / file.name).symlink_to(file.resolve())
        (made / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")
        yield made
