"""Which seeds a simulation runs: `make sim SEED=n SECONDS=60` or, by itself, the first 200."""

import os
import time
from collections.abc import Iterator


def seeds(count: int = 200) -> Iterator[int]:
    """Yield `count` seeds from SIM_SEED on, or as many as fit into SIM_SECONDS if that is set."""
    first = int(os.environ.get("SIM_SEED", "0"))
    seconds = float(os.environ.get("SIM_SECONDS", "0"))
    if not seconds:
        yield from range(first, first + count)
        return
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield first
        first += 1
