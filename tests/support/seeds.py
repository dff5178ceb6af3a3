"""Which seeds a simulation runs: 200, or as many as fit into `make sim SEED=n SECONDS=s`."""

import os
import time
from collections.abc import Iterator

SEEDS_MIN = 200


def seeds(count: int = SEEDS_MIN) -> Iterator[int]:
    """Yield `count` seeds from SIM_SEED on, and more until SIM_SECONDS have passed."""
    first = int(os.environ.get("SIM_SEED", "0"))
    seconds = float(os.environ.get("SIM_SECONDS", "0"))
    started = time.monotonic()
    seed = first
    while seed < first + count or time.monotonic() - started < seconds:
        yield seed
        seed += 1
