"""What a line of the log takes of whoever writes it, in one process: microseconds per call.

Beside the end-to-end figures, because other programs move those by more than the goal: here a
file and a TCP peer that never reads take turns, each while its buffer is full most of the time.
"""

import socket
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.receipts_cost import a_record
from forebay.bench.stats import percentile
from forebay.telemetry.logs import LogConfig, RequestLog

_CALLS: Final = 20_000
_BURST: Final = 20
_ROUNDS: Final = 3


def calls_us() -> dict[str, dict[str, float]]:
    """Return percentiles of a call, by where lines go: in bursts, a millisecond apart."""
    took: dict[str, list[float]] = {"file": [], "hole": []}
    lost: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as hole,
    ):
        ways = {
            "file": str(Path(folder) / "log"),
            "hole": f"tcp://127.0.0.1:{hole.getsockname()[1]}",
        }
        for _ in range(_ROUNDS):
            for name, way in ways.items():
                log = RequestLog(LogConfig(destination=way, format="json", lines_max=1_000))
                took[name] += _calls(log)
                lost[name] = log.dropped / _CALLS
                log.stop()
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {
        name: {share: percentile(found, at) for share, at in shares.items()} | {"lost": lost[name]}
        for name, found in took.items()
    }


def _calls(log: RequestLog) -> list[float]:
    record, found = a_record(0), []
    for number in range(_CALLS):
        began = time.perf_counter()
        log(record)
        found.append(1e6 * (time.perf_counter() - began))
        if number % _BURST == 0:
            time.sleep(0.001)
    return found
