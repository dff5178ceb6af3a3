"""The dashboard `tenants`: what is used, what it is charged to, and who is held back.

A tenant is never a label: a name that callers choose would make series without end, and whoever
may read metrics would read who the customers are.  What one tenant used and what it cost is in
the usage ledger, and the dashboard says how to ask it.
"""

from typing import Final

from forebay.monitoring.panel import HERE, OF_MODEL, Dashboard, Kind, Panel, Query, Row, Unit, rate

_LEDGER: Final = """\
Metrics have no tenant: this page is of **all tenants together**. What each used, and what it cost,
is in the usage ledger. Ask it with an API key that has the scope `usage`:

```
curl -H "Authorization: Bearer $KEY" "$FOREBAY/v1/usage?by=tenant,model&tenant=*"
```

`tenant=*` is for administrators; without it a key sees its own. The answer has requests, tokens,
money, and what is left of each budget; docs/budgets.md explains it.
"""
_REQUESTS: Final = "llm_requests_total"
_FREE: Final = f'{OF_MODEL}, source!="engine"'


def _ended(outcomes: str) -> str:
    match = f'{OF_MODEL}, outcome=~"{outcomes}"'
    return f"sum by (outcome) ({rate(_REQUESTS, match)})"


_USE: Final = (
    Panel(
        title="Of one tenant",
        about="How to ask the usage ledger.",
        kind=Kind.TEXT,
        text=_LEDGER,
        width=24,
    ),
    Panel(
        title="Tokens charged for",
        about="Of all tenants. What was refused, failed or was replayed is not in it.",
        queries=(
            Query(f"sum({rate('llm_prompt_tokens_total', OF_MODEL)})", "prompts"),
            Query(f"sum({rate('llm_generation_tokens_total', OF_MODEL)})", "answers"),
        ),
        unit=Unit.TOKENS,
        kind=Kind.STACK,
    ),
    Panel(
        title="Tokens of a day by model",
        about="Times a model's price (docs/budgets.md) this is what the day cost all tenants.",
        queries=(
            Query(
                f"sum by (model) (increase(llm_prompt_tokens_total{{{OF_MODEL}}}[1d]))",
                "{{model}}, prompts",
            ),
            Query(
                f"sum by (model) (increase(llm_generation_tokens_total{{{OF_MODEL}}}[1d]))",
                "{{model}}, answers",
            ),
        ),
    ),
    Panel(
        title="Answers that cost nothing",
        about="Share of the answers that came from the cache, a replay or another's generation.",
        queries=(
            Query(
                f"sum({rate('llm_answers_total', _FREE)})"
                f" / (sum({rate('llm_answers_total', OF_MODEL)}) > 0)",
                "free",
            ),
        ),
        unit=Unit.RATIO,
    ),
)

_LIMITS: Final = (
    Panel(
        title="Held back",
        about="Requests refused because their caller is over a rate, or its budget is spent.",
        queries=(Query(_ended("rate_limited|over_budget"), "{{outcome}}"),),
        unit=Unit.PER_SECOND,
    ),
    Panel(
        title="Rates exceeded",
        about="Whose limit it was (key, user, tenant, address), and of what.",
        queries=(
            Query(
                f"sum by (level, unit) ({rate('llm_rate_limited_total')}) > 0",
                "{{level}}: {{unit}}",
            ),
        ),
        unit=Unit.PER_SECOND,
        kind=Kind.STACK,
    ),
    Panel(
        title="Not let in",
        about="Requests without a credential that is known, or that it does not allow.",
        queries=(Query(_ended("unauthenticated|forbidden"), "{{outcome}}"),),
        unit=Unit.PER_SECOND,
    ),
    Panel(
        title="Logins",
        about="Attempts by how they ended. Many that failed: somebody guesses.",
        queries=(Query(f"sum by (result) ({rate('llm_logins_total')})", "{{result}}"),),
        unit=Unit.PER_SECOND,
    ),
    Panel(
        title="Budgets: tokens held",
        about="Reserved for requests that run, until it is known what they made.",
        queries=(Query(f"sum(llm_budget_tokens_held{{{HERE}}})", "held"),),
    ),
    Panel(
        title="Budgets: overruns",
        about="Requests within a day that made more than was reserved; they were charged for it.",
        queries=(Query(f"sum(increase(llm_budget_overruns_total{{{HERE}}}[1d]))", "overruns"),),
    ),
)

_BOOKS: Final = (
    Panel(
        title="Accounts database",
        about="1 while it does not take what was spent: callers with budgets are refused.",
        queries=(Query(f"llm_books_degraded{{{HERE}}}", "{{instance}}"),),
        alarm=1,
        width=12,
    ),
    Panel(
        title="Usage rows",
        about="Rows that are not written yet, and rows of a day that never will be.",
        queries=(
            Query(f"llm_usage_rows_waiting{{{HERE}}}", "{{instance}}, waiting"),
            Query(f"increase(llm_usage_rows_lost_total{{{HERE}}}[1d])", "{{instance}}, lost"),
        ),
        width=12,
    ),
)

TENANTS: Final = Dashboard(
    uid="tenants",
    title="Forebay: tenants and cost",
    about="What is used and charged for, who is held back, and whether the books are kept.",
    rows=(Row("Use and cost", _USE), Row("Limits", _LIMITS), Row("Books", _BOOKS)),
)
