"""The metrics of budgets and of the usage ledger: part of the catalogue."""

from typing import Final

from forebay.telemetry.metric import Kind, Metric

BUDGET_RESERVED: Final = Metric(
    name="llm_budget_tokens_held",
    kind=Kind.GAUGE,
    help="Tokens that requests hold of their callers' budgets until it is known what they made.",
    action="Far above what is made: callers ask for more (max_tokens) than they use.",
)
BUDGET_OVERRUNS: Final = Metric(
    name="llm_budget_overruns_total",
    kind=Kind.COUNTER,
    help="Requests that made more than was reserved for them; they were charged all of it.",
    action="Any: an engine counts other tokens than were forecast; report it with the model.",
)
BOOKS_DEGRADED: Final = Metric(
    name="llm_books_degraded",
    kind=Kind.GAUGE,
    help="1 while the accounts database does not take what was spent.",
    action="1: look at the database; callers with budgets are refused meanwhile.",
)
USAGE_WAITING: Final = Metric(
    name="llm_usage_rows_waiting",
    kind=Kind.GAUGE,
    help="Rows of the usage ledger that are not written yet; a process that is killed loses them.",
    action="Growing: the accounts database is away or slow; beyond budgets.rows_max rows are lost.",
)
USAGE_LOST: Final = Metric(
    name="llm_usage_rows_lost_total",
    kind=Kind.COUNTER,
    help="Rows of the usage ledger that will never be written.",
    action="Any: the accounts database was away for too long; llm_generation_tokens_total has all.",
)

BOOK_METRICS: Final = (BUDGET_RESERVED, BUDGET_OVERRUNS, BOOKS_DEGRADED, USAGE_WAITING, USAGE_LOST)
