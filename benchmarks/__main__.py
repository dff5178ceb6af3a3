"""`python -m benchmarks`: measure, print tables, write results/."""

import argparse
from typing import Any

from benchmarks import engine_throughput, machine, overhead, upstream


def main() -> None:
    """Run what was asked for; without an argument, everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("which", nargs="?", choices=("overhead", "throughput", "upstream"))
    parser.add_argument("--trials", type=int, default=5, help="interleaved repetitions")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each overhead measurement")
    chosen = parser.parse_args()
    if chosen.which in (None, "overhead"):
        plan = overhead.Plan(trials=chosen.trials, seconds=chosen.seconds)
        measured = overhead.run(plan)
        _show("overhead", measured, overhead.report(measured))
    if chosen.which in (None, "upstream"):
        plan = overhead.Plan(trials=chosen.trials, seconds=chosen.seconds)
        measured = upstream.run(plan)
        _show("upstream", measured, upstream.report(measured))
    if chosen.which in (None, "throughput"):
        measured = engine_throughput.run(chosen.trials)
        _show("throughput", measured, engine_throughput.report(measured))


def _show(name: str, measured: dict[str, Any], text: str) -> None:
    print(text)
    print(f"\n{machine.save(name, measured, text)}")


if __name__ == "__main__":
    main()
