"""The bare pipeline in a process of its own: one JSON command a line in, one result a line out.

It is built by our engine module, so that artefact, scheduler and precision are the same, and
then driven without any of our code.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from forebay.engines.openvino import OpenVinoConfig, OpenVinoStepEngine


def generated(pipeline: Any, prompts: list[list[int]], tokens: int) -> dict[str, Any]:  # noqa: ANN401 - the library is untyped
    """Run prompts together, greedily, to exactly `tokens` each; return seconds and tokens."""
    import numpy as np  # noqa: PLC0415 - heavy
    import openvino  # noqa: PLC0415 - heavy
    import openvino_genai  # noqa: PLC0415 - heavy

    wish = openvino_genai.GenerationConfig()
    wish.max_new_tokens = tokens
    wish.ignore_eos = True
    wish.do_sample = False
    began = time.perf_counter()
    handles = [
        pipeline.add_request(number, openvino.Tensor(np.array([ids], dtype=np.int64)), wish)
        for number, ids in enumerate(prompts)
    ]
    first: list[float | None] = [None] * len(prompts)
    made = 0
    while pipeline.has_non_finished_requests():
        pipeline.step()
        now = time.perf_counter() - began
        for number, handle in enumerate(handles):
            if handle.can_read():
                (output,) = handle.read().values()
                made += len(output.generated_ids)
                first[number] = first[number] or now
    return {"seconds": time.perf_counter() - began, "tokens": made, "first_s": first}


def main() -> None:
    """Load the folder named first on the command line, with options as JSON; then obey."""
    options = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}  # noqa: PLR2004 - the second
    engine = OpenVinoStepEngine(OpenVinoConfig(**options), Path(sys.argv[1]))
    pipeline = engine._pipeline  # noqa: SLF001 - to drive exactly what our engine drives
    print(json.dumps({"detail": engine.info.detail}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(generated(pipeline, command["prompts"], command["tokens"])), flush=True)


if __name__ == "__main__":
    main()
