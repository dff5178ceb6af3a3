"""What `/metrics` says of the input guard."""

from typing import Final

from forebay.telemetry.metric import Kind, Label, Metric

GUARD_ACTIONS: Final = ("passed", "flagged", "refused", "unscreened")
"""What became of a prompt or an answer that the guard looked at."""
GUARD_REASONS: Final = (
    *("clean", "override", "extraction", "persona", "markup", "exfiltration", "addressed"),
    *("disguised", "classifier", "canary", "too_long", "token_ids", "busy"),
)
"""Why: families of rules, and what else there may be (`serve/screening.py`)."""

GUARD: Final = Metric(
    name="llm_guard_total",
    kind=Kind.COUNTER,
    help="Prompts that the input guard looked at, and answers it stopped, by what and why.",
    action="Before guard.mode=block: see in the log which of those flagged were harmless.",
    labels=(Label.ACTION, Label.REASON),
)

GUARD_METRICS: Final = (GUARD,)
