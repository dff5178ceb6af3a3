"""`python -m benchmarks`: measure, print tables, write results/."""

import argparse
from typing import Any, Final

from benchmarks import (
    engine_throughput,
    engines,
    engines_report,
    login_flood,
    login_timing,
    machine,
    overhead,
    receipts,
    scrape,
    telemetry,
    tenancy,
    timing_leak,
    upstream,
)

_KNOWN: Final = (
    "overhead",
    "throughput",
    "upstream",
    "engines",
    "timing",
    "tenancy",
    "login",
    "receipts",
    "telemetry",
    "scrape",
)


def main() -> None:
    """Run what was asked for; without an argument, everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("which", nargs="?", choices=_KNOWN)
    parser.add_argument("--trials", type=int, default=5, help="interleaved repetitions")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each overhead measurement")
    parser.add_argument("--minutes", type=float, default=13.0, help="engines: no round ends later")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="ENGINE=PATH",
        help="engines: the interpreter of the environment with an engine's library",
    )
    parser.add_argument("--only", default="", help="engines: rows to measure, by comma")
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
    if chosen.which == "timing":
        measured = timing_leak.run()
        measured["comparisons"] += login_timing.run()["comparisons"]
        _show("timing", measured, timing_leak.report(measured))
    if chosen.which in (None, "receipts"):
        measured = receipts.run()
        _show("receipts", measured, receipts.report(measured))
    named = {"telemetry": telemetry, "login": login_flood, "scrape": scrape}
    if (part := named.get(chosen.which)) is not None:
        measured = part.run(part.Plan(trials=chosen.trials, seconds=chosen.seconds))
        _show(chosen.which, measured, part.report(measured))
    if chosen.which in (None, "tenancy"):
        measured = tenancy.run(tenancy.Plan(trials=chosen.trials, seconds=chosen.seconds))
        _show("tenancy", measured, tenancy.report(measured))
    if chosen.which == "engines":  # not without being asked: it wants the memory of all of them
        pythons = dict(word.partition("=")[::2] for word in chosen.python)
        only = frozenset(filter(None, chosen.only.split(",")))
        wanted = engines.Plan(
            trials=chosen.trials, minutes=chosen.minutes, pythons=pythons, only=only
        )
        measured = engines.run(wanted)
        _show("engines", measured, engines_report.report(measured))


def _show(name: str, measured: dict[str, Any], text: str) -> None:
    print(text)
    print(f"\n{machine.save(name, measured, text)}")


if __name__ == "__main__":
    main()
