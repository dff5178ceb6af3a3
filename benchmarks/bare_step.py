"""A step engine of ours in a process of its own, without worker, socket and gateway.

`python -m benchmarks.bare_step ENGINE FOLDER OPTIONS`; then one JSON command a line in, one result
a line out.  What is left out is all that Forebay adds to the adapter: text work, frames, HTTP.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from forebay.core.request import Sampling
from forebay.engine.protocol import SequenceId, StepEngine
from forebay.engine.registry import EngineKind, find


def generated(
    engine: StepEngine, prompts: list[list[int]], *, tokens: int, first_id: int
) -> dict[str, Any]:
    """Run prompts together, greedily, to exactly `tokens` each; return seconds and tokens."""
    sampling = Sampling(tokens_max=tokens, temperature=0.0, seed=1, ignore_eos=True)
    began = time.perf_counter()
    for number, ids in enumerate(prompts):
        engine.submit(SequenceId(first_id + number), ids, sampling)
    first: list[float | None] = [None] * len(prompts)
    made, running = 0, len(prompts)
    while running:
        outputs = engine.step()
        now = time.perf_counter() - began
        for output in outputs:
            assert output.failure is None, output.failure
            number = output.id - first_id
            made += len(output.token_ids)
            first[number] = first[number] or now
            running -= output.finish_reason is not None
    return {"seconds": time.perf_counter() - began, "tokens": made, "first_s": first}


def main() -> None:
    """Load, say so, then obey."""
    name, folder, options = sys.argv[1:]
    kind = find(name)
    assert isinstance(kind, EngineKind), f"{name} has no step engine"
    engine = kind.make(kind.config(**json.loads(options)), Path(folder))
    print(json.dumps({"detail": engine.info.detail}), flush=True)
    asked = 0
    for line in sys.stdin:
        command = json.loads(line)
        prompts = command["prompts"]
        result = generated(engine, prompts, tokens=command["tokens"], first_id=asked)
        asked += len(prompts)
        print(json.dumps(result), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
