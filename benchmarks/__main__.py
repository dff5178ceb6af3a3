"""`python -m benchmarks`: measure, print tables, write results/."""

import argparse

from benchmarks import engine_throughput, machine, overhead


def main() -> None:
    """Run what was asked for; without an argument, everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("which", nargs="?", choices=("overhead", "throughput"))
    parser.add_argument("--trials", type=int, default=5, help="interleaved repetitions")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each overhead measurement")
    chosen = parser.parse_args()
    if chosen.which in (None, "overhead"):
        plan = overhead.Plan(trials=chosen.trials, seconds=chosen.seconds)
        result = overhead.run(plan)
        print(overhead.report(result))
        print(f"\n{machine.save('overhead', result)}")
    if chosen.which in (None, "throughput"):
        result = engine_throughput.run(chosen.trials)
        print(engine_throughput.report(result))
        print(f"\n{machine.save('throughput', result)}")


if __name__ == "__main__":
    main()
