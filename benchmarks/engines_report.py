"""What `engines.py` measured, to look at: one table, a bar a row, gates.

`python -m benchmarks.engines_report FILE` writes table and bars into docs/engines.md.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from forebay.bench.stats import median

DEFAULT_ENGINE: Final = "openvino"
TIMES_PEER: Final = 2.0
"""Goal: the default engine's tokens/s at 32 streams, as a multiple of the best peer's."""
SHARE_OF_BARE: Final = 0.95
"""Goal: what is left of each engine's tokens/s at 32 streams behind Forebay."""
_BAR: Final = 40
_BEGIN: Final = "<!-- engines: begin"
_END: Final = "<!-- engines: end -->"
_HEAD: Final = (
    *("server", "TTFT ms", "1 stream tok/s", "8", "16", "32", "32: range"),
    *("memory MB", "start s", "of bare, 32"),
)


def report(result: dict[str, Any]) -> str:
    """Return table, bars, gates, and who was left out and why."""
    rows = {name: row for name, row in result["rows"].items() if row["trials"]}
    left_out = {name: row for name, row in result["rows"].items() if row.get("skipped")}
    parts = [table(result), bars(rows), machine.table("Gates", _gates(rows))]
    details = [f"- {name}: {row['detail']}" for name, row in rows.items() if "detail" in row]
    parts.append("\n" + "\n".join(details))
    if left_out:
        lines = [f"- {name}: {_one_line(row['skipped'])}" for name, row in left_out.items()]
        parts.append("\nNot measured, or not to the end:\n\n" + "\n".join(lines))
    return "\n".join(parts)


def table(result: dict[str, Any]) -> str:
    """Return one line for each server, the fastest first."""
    rows = {name: row for name, row in result["rows"].items() if row["trials"]}
    ordered = sorted(rows, key=lambda name: -speed(rows[name], "32"))
    facts = result["machine"]
    prompt, new = result["prompt_tokens"], result["new_tokens"]
    title = (
        f"{facts['date'][:10]}, {facts['cores']} x {facts['processor']}; {prompt} + {new} tokens, "
        "medians"
    )
    return machine.table(title, [list(_HEAD), *(_line(name, rows[name]) for name in ordered)])


def bars(rows: dict[str, Any]) -> str:
    """Return a bar for each server: tokens/s at 32 streams."""
    most = max((speed(row, "32") for row in rows.values()), default=1.0)
    lines = [
        f"{name:<20} {'█' * max(1, round(_BAR * speed(row, '32') / most))} {speed(row, '32'):,.0f}"
        for name, row in sorted(rows.items(), key=lambda item: -speed(item[1], "32"))
    ]
    return "\n".join(["\n```text", "tokens/s, 32 streams over HTTP", *lines, "```"])


def speed(row: dict[str, Any], part: str) -> float:
    """Return the median tokens/s of a part of the trials."""
    return median([trial[part]["tokens_per_s"] for trial in row["trials"] if part in trial])


def of_bare(row: dict[str, Any]) -> list[float]:
    """Return what was left behind Forebay, pair by pair."""
    return [
        trial["32"]["tokens_per_s"] / trial["bare"]["tokens_per_s"]
        for trial in row["trials"]
        if "bare" in trial
    ]


def times_best_peer(rows: dict[str, Any]) -> list[tuple[float, str]]:
    """Return the default engine's tokens/s over the best peer's, round by round."""
    ours = rows[DEFAULT_ENGINE]["trials"]
    peers = {name: row["trials"] for name, row in rows.items() if row["peer"]}
    found = []
    for number, trial in enumerate(ours):
        theirs = [
            (trials[number]["32"]["tokens_per_s"], name)
            for name, trials in peers.items()
            if number < len(trials)
        ]
        if theirs:
            best, name = max(theirs)
            found.append((trial["32"]["tokens_per_s"] / best, name))
    return found


def _line(name: str, row: dict[str, Any]) -> list[str]:
    trials = row["trials"]
    first = median([1000 * value for trial in trials for value in trial["single_first_s"]])
    many = [trial["32"]["tokens_per_s"] for trial in trials]
    shares = of_bare(row)
    streams = [f"{speed(row, part):,.0f}" for part in ("single", "8", "16", "32")]
    spread = f"{min(many):,.0f}-{max(many):,.0f} (n={len(many)})"
    left = f"{median(shares):.2f} ({min(shares):.2f}-{max(shares):.2f})" if shares else "-"
    memory = f"{row['rss_mb']['engine']:,.0f}"
    shown = name if row["peer"] else f"**{name}** through Forebay"
    return [shown, f"{first:.0f}", *streams, spread, memory, f"{row['start_s']:.1f}", left]


def _gates(rows: dict[str, Any]) -> list[list[str]]:
    lines = [["gate", "measured", "goal", "verdict"]]
    times = times_best_peer(rows) if DEFAULT_ENGINE in rows else []
    if times:
        ratio = median([found for found, _ in times])
        best = ", ".join(sorted({name for _, name in times}))
        lines.append(
            [
                f"{DEFAULT_ENGINE} against the best peer ({best}), 32 streams",
                f"{ratio:.2f}",
                f"{TIMES_PEER:.2f}",
                _verdict(ratio, TIMES_PEER),
            ]
        )
    for name, row in rows.items():
        if shares := of_bare(row):
            share = median(shares)
            goal = f"{SHARE_OF_BARE:.2f}"
            verdict = _verdict(share, SHARE_OF_BARE)
            lines.append([f"{name} of bare, 32 streams", f"{share:.3f}", goal, verdict])
    return lines


def _verdict(found: float, goal: float) -> str:
    return "pass" if found >= goal else "**fail**"


def _one_line(text: str) -> str:
    return " ".join(text.split())[-300:]


def written(document: str, result: dict[str, Any], name: str) -> str:
    """Return the document with the table and bars of a result between its two marks."""
    rows = {row: found for row, found in result["rows"].items() if found["trials"]}
    link = f"Raw figures and what was left out: [{name}](../benchmarks/results/{name})."
    parts = (table(result).strip(), bars(rows).strip(), link)
    head, begin, rest = document.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    assert begin, f"no {_BEGIN}"
    assert end, f"no {_END}"
    rest_of_mark = rest.partition("-->")[0]
    return f"{head}{begin}{rest_of_mark}-->\n\n" + "\n\n".join(parts) + f"\n\n{end}{tail}"


def main() -> None:
    """Write a result into the document."""
    path = Path(sys.argv[1])
    result = json.loads(path.read_text(encoding="utf-8"))
    document = machine.ROOT / "docs" / "engines.md"
    text = written(document.read_text(encoding="utf-8"), result, path.name)
    document.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
