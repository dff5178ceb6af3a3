"""A share of the hostile drill; `make drill ARGS=hostile` sends 100,000."""

import json
import os
from pathlib import Path
from typing import Final

import pytest

from forebay.drill import hostile
from forebay.drill.hostile import Assault
from forebay.drill.stage import Stage

SHARE: Final = 10_000
"""What fits into a minute beside other tests, warming up included."""


@pytest.mark.slow
def test_a_share_of_the_hostile_requests_is_answered_clearly_and_hurts_nobody(
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("SIM_SEED", hostile.SEED))
    wanted = Assault(requests=SHARE, seed=seed, closed=True)
    stage = Stage(
        engine="scripted", quick=True, folder=tmp_path, models=tmp_path, say=lambda *_, **__: None
    )
    outcome = hostile.assault(stage, wanted)
    gates = list(outcome.gates(wanted))
    told = "\n".join(f"{gate.what}: {gate.measured}" for gate in gates if not gate.passed)
    assert not told, told + "\n" + json.dumps(outcome.figures(wanted), indent=1)
