"""llama.cpp's server inside this process: how it is made, and calls to it on threads.

It insists on listening: so it listens on a socket in a folder of ours, behind a key that nobody
knows, and the socket is removed as soon as it stands.  Each call occupies a thread until it has
ended, and tells its lines by calling back from there; they are gathered here.
"""

import os
import queue
import secrets
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from forebay.engine.manifest import ArtefactError

_ERRORS_ONLY: Final = 1
_UBATCH_TOKENS: Final = 512
"""Tokens computed at once: more needs more memory for the same speed (the library's default)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the library is given."""

    sequences: int
    kv_tokens: int
    batched_tokens: int
    threads: int
    cache_ram_bytes: int


def open_server(model: Path, sizes: Sizes) -> Any:  # noqa: ANN401 - the library's
    """Load a GGUF and start the library's threads, or raise ArtefactError with the fix."""
    # On an assertion the library would start a debugger and print all our stacks.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    import xllamacpp  # noqa: PLC0415 - heavy

    with tempfile.TemporaryDirectory(prefix="forebay-") as private:
        params = _params(xllamacpp.CommonParams(), sizes)
        params.model.path = str(model)
        params.hostnames = [f"{private}/llama.sock"]
        params.api_keys = [secrets.token_hex()]
        try:
            return xllamacpp.Server(params)
        except RuntimeError as error:
            raise ArtefactError(
                f"llama.cpp cannot load {model}: the file is damaged, memory ran out, or this "
                f"version of xllamacpp ({version('xllamacpp')}) does not know its kind of model; "
                "the worker's lines in the log say which. Remove the folder and run `forebay pull "
                "MODEL` again, lower llamacpp.kv_cache_bytes, or upgrade xllamacpp."
            ) from error


def _params(params: Any, sizes: Sizes) -> Any:  # noqa: ANN401 - the library's
    """Set everything whose default takes memory, listens, or may change."""
    params.model_alias = {"model"}
    params.n_parallel = sizes.sequences
    params.n_ctx = sizes.kv_tokens
    # One cache for all: a long sequence may use what others leave.
    params.kv_unified = True
    params.n_batch = sizes.batched_tokens
    params.n_ubatch = min(sizes.batched_tokens, _UBATCH_TOKENS)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = sizes.threads
    params.cache_ram_mib = sizes.cache_ram_bytes >> 20
    params.cache_idle_slots = False
    params.n_ctx_checkpoints = 0
    params.ctx_shift = False
    params.cont_batching = True
    params.fit_params = False
    params.n_gpu_layers = 0
    params.n_threads_http = 1
    params.endpoint_slots = params.endpoint_metrics = params.endpoint_props = False
    params.ui = False
    params.use_jinja = params.enable_chat_template = False
    params.sse_ping_interval = -1
    params.offline = True
    params.verbosity = _ERRORS_ONLY
    return params


@dataclass(slots=True, eq=False)
class Call:
    """One completion under way."""

    dropped: bool = False
    """Nobody wants more of it: it is stopped when it next says something."""


class Calls:
    """Completions under way, one thread each.

    Mutable state: how many there are, and the lines that nobody has taken yet.
    """

    def __init__(self, server: Any, *, calls_max: int) -> None:  # noqa: ANN401 - the library's
        """Call a server, so many times at once at most."""
        self._server = server
        self._threads = ThreadPoolExecutor(calls_max, thread_name_prefix="llamacpp")
        self._lines: queue.SimpleQueue[tuple[Call, bytes | None]] = queue.SimpleQueue()
        self.under_way = 0

    def start(self, body: bytes) -> Call:
        """Begin a completion."""
        call = Call()
        self.under_way += 1
        self._threads.submit(self._run, call, body)
        return call

    def take(self, wait_s: float, settle_s: float) -> list[tuple[Call, bytes | None]]:
        """Return what has been said; None is a call's end.

        Waits `wait_s` for a first line.  A step of the batch tells a line of each call, thread by
        thread, so the others are given `settle_s` to follow.
        """
        taken: list[tuple[Call, bytes | None]] = []
        try:
            while len(taken) < self.under_way:
                taken.append(self._lines.get(timeout=settle_s if taken else wait_s))
        except queue.Empty:
            pass
        self.under_way -= sum(1 for _, line in taken if line is None)
        return taken

    def close(self) -> None:
        """Wait until all have ended; they were dropped before."""
        self._threads.shutdown(wait=True)
        del self._server

    def _run(self, call: Call, body: bytes) -> None:
        put = self._lines.put

        def hear(line: bytes) -> bool:
            """Return whether to stop; an exception here would be swallowed by the library."""
            if not call.dropped:
                put((call, line))
            return call.dropped

        try:
            if not call.dropped:
                complete: Callable[..., object] = self._server.handle_completions
                complete(body, hear)
        finally:
            put((call, None))
