"""The dashboard `llm`: what clients get, how fast, how much, and what of it was promised."""

from collections.abc import Iterator
from typing import Final

from forebay.core.errors import OUTCOMES, Objective
from forebay.core.request import Priority
from forebay.monitoring.alert import duration
from forebay.monitoring.panel import (
    HERE,
    OF_MODEL,
    Dashboard,
    Kind,
    Panel,
    Query,
    Row,
    Unit,
    mean,
    quantile,
    quantiles,
    rate,
)
from forebay.policy.slo import Measure, Spec

_REQUESTS: Final = "llm_requests_total"
_NOT_OK: Final = f'{OF_MODEL}, outcome!="ok"'


def llm(spec: Spec) -> Dashboard:
    """Return the dashboard; its thresholds are the objectives'."""
    return Dashboard(
        uid="llm",
        title="Forebay: LLM",
        about="What clients get: answers, how fast, how many, and what of it was promised.",
        rows=(
            Row("Answers", _ANSWERS),
            Row("Latency", tuple(_latency(spec))),
            Row("Throughput", _THROUGHPUT),
            Row("Objectives", tuple(_objectives(spec))),
            Row("Models and workers", _MODELS),
        ),
    )


def _ended(*objectives: Objective) -> str:
    found = "|".join(name for name, row in OUTCOMES.items() if row.objective in objectives)
    return f'{OF_MODEL}, outcome=~"{found}", route!="shadow"'


def _at_most_s(spec: Spec, measure: Measure) -> float | None:
    """Return the threshold of what people wait for."""
    found = (
        goal.at_most_s
        for goal in spec.goals
        if goal.measure is measure and goal.priority in {None, Priority.INTERACTIVE}
    )
    return next(found, None)


_BAD: Final = f"sum by (model) ({rate(_REQUESTS, _ended(Objective.BAD))})"
_COUNTED: Final = f"sum by (model) ({rate(_REQUESTS, _ended(Objective.GOOD, Objective.BAD))})"

_ANSWERS: Final = (
    Panel(
        title="Up",
        about="Whether Prometheus reaches each server.",
        queries=(Query(f'up{{job="forebay", {HERE}}}', "{{instance}}"),),
        unit=Unit.BOOLEAN,
        kind=Kind.STAT,
        width=4,
        alarm=1,
        below=True,
    ),
    Panel(
        title="Ready",
        about="Whether new requests should go there; /readyz says why not.",
        queries=(Query(f"forebay_ready{{{HERE}}}", "{{instance}}"),),
        unit=Unit.BOOLEAN,
        kind=Kind.STAT,
        width=4,
        alarm=1,
        below=True,
    ),
    Panel(
        title="Requests",
        about="Requests that ended, by model.",
        queries=(Query(f"sum by (model) ({rate(_REQUESTS, OF_MODEL)})", "{{model}}"),),
        unit=Unit.PER_SECOND,
    ),
    Panel(
        title="Requests by route",
        about="What is asked for, and how.",
        queries=(Query(f"sum by (route) ({rate(_REQUESTS, OF_MODEL)})", "{{route}}"),),
        unit=Unit.PER_SECOND,
        kind=Kind.STACK,
    ),
    Panel(
        title="Errors",
        about="Share of the requests that count that failed by our fault: errors, timeouts,"
        " refusals for want of capacity. What callers did wrong is not in it.",
        queries=(Query(f"({_BAD} or 0 * {_COUNTED}) / ({_COUNTED} > 0)", "{{model}}"),),
        unit=Unit.RATIO,
        width=12,
        warn=0.05,
        alarm=0.10,
    ),
    Panel(
        title="Errors by type",
        about="How requests end that do not end well; docs/errors.md explains each outcome.",
        queries=(
            Query(
                f"sum by (outcome) ({rate(_REQUESTS, _NOT_OK)}) > 0",
                "{{outcome}}",
            ),
        ),
        unit=Unit.PER_SECOND,
        kind=Kind.STACK,
        width=12,
    ),
)


def _latency(spec: Spec) -> Iterator[Panel]:
    yield Panel(
        title="Time to first token",
        about="Receipt to first token, with queue and prefill. Red: above the objective.",
        queries=quantiles("llm_time_to_first_token_seconds"),
        unit=Unit.SECONDS,
        alarm=_at_most_s(spec, Measure.TTFT),
    )
    yield Panel(
        title="Time per output token",
        about="Mean time per token after the first, per request. Red: above the objective.",
        queries=quantiles("llm_time_per_output_token_seconds"),
        unit=Unit.SECONDS,
        alarm=_at_most_s(spec, Measure.TPOT),
    )
    yield Panel(
        title="Inter-token latency",
        about="Gaps in streams. A long tail beside a steady median: prefills interrupt decoding.",
        queries=quantiles("llm_inter_token_latency_seconds"),
        unit=Unit.SECONDS,
    )
    yield Panel(
        title="Request duration",
        about="Receipt to ending of good answers.",
        queries=quantiles("llm_request_duration_seconds", f'{OF_MODEL}, objective="good"'),
        unit=Unit.SECONDS,
        warn=10,
        width=12,
    )
    yield Panel(
        title="Where the time goes",
        about="Mean seconds of a request: waiting for a place, prefill, decode, everything else.",
        queries=tuple(
            Query(mean(f"llm_{part}_seconds"), part.replace("_", " "))
            for part in ("queue_time", "prefill_time", "decode_time", "gateway_overhead")
        ),
        unit=Unit.SECONDS,
        kind=Kind.STACK,
        width=12,
    )


_THROUGHPUT: Final = (
    Panel(
        title="Tokens per second",
        about="Tokens of answers that finished, and of their prompts.",
        queries=(
            Query(
                f"sum by (model) ({rate('llm_generation_tokens_total', OF_MODEL)})",
                "{{model}}, made",
            ),
            Query(
                f"sum by (model) ({rate('llm_prompt_tokens_total', OF_MODEL)})", "{{model}}, read"
            ),
        ),
        unit=Unit.TOKENS,
    ),
    Panel(
        title="Running and waiting",
        about="Requests that hold a place, and those that wait for one.",
        queries=(
            Query(f"sum by (model) (llm_requests_running{{{OF_MODEL}}})", "{{model}}, running"),
            Query(f"sum by (model) (llm_requests_waiting{{{OF_MODEL}}})", "{{model}}, waiting"),
        ),
    ),
    Panel(
        title="Saturation",
        about="Requests per place; above 1 some wait. Keep it below 0.8 on average.",
        queries=(Query(f"llm_saturation_ratio{{{OF_MODEL}}}", "{{model}} {{instance}}"),),
        unit=Unit.RATIO,
        warn=0.8,
        alarm=1,
    ),
    Panel(
        title="Answers by source",
        about="Only those of engine were made anew; the others cost nothing.",
        queries=(Query(f"sum by (source) ({rate('llm_answers_total', OF_MODEL)})", "{{source}}"),),
        unit=Unit.PER_SECOND,
        kind=Kind.STACK,
    ),
    Panel(
        title="Wasted tokens",
        about="Computed for requests that were aborted: clients gave up, or deadlines passed.",
        queries=(
            Query(f"sum by (phase) ({rate('llm_wasted_tokens_total', OF_MODEL)})", "{{phase}}"),
        ),
        unit=Unit.TOKENS,
        kind=Kind.STACK,
    ),
    Panel(
        title="How answers stop",
        about="Many of length: answers are cut; clients ask for too few tokens.",
        queries=(
            Query(
                f"sum by (reason) ({rate('llm_choices_finished_total', OF_MODEL)})", "{{reason}}"
            ),
        ),
        unit=Unit.PER_SECOND,
        kind=Kind.STACK,
    ),
)


def _objectives(spec: Spec) -> Iterator[Panel]:
    window, events = duration(spec.window_s), f"llm_slo_events_total{{{HERE}}}"
    good = events.replace("{", '{result="good", ')
    yield Panel(
        title="Error budget left",
        about=f"What is left of each objective's budget of {window}; below 0, more was spent.",
        queries=(Query("slo:budget_left:ratio", "{{slo}}"),),
        unit=Unit.RATIO,
        kind=Kind.STAT,
        width=24,
        warn=0.25,
        alarm=0.0,
        below=True,
    )
    yield Panel(
        title="Goodput",
        about="Share of the events of each objective that were good; dashed: what was promised.",
        queries=(
            Query(
                f"sum by (slo) (rate({good}[$__rate_interval]))"
                f" / (sum by (slo) (rate({events}[$__rate_interval])) > 0)",
                "{{slo}}",
            ),
            Query("slo:goal:ratio", "{{slo}}, promised"),
        ),
        unit=Unit.RATIO,
        width=12,
        warn=max(goal.goal for goal in spec.goals),
        alarm=min(goal.goal for goal in spec.goals),
        below=True,
    )
    rates = sorted({burn.rate for burn in spec.burns})
    yield Panel(
        title="Error budget burn",
        about="How many times as fast as it may each budget goes."
        f" {rates[-1]:g} for an hour wakes somebody.",
        queries=tuple(
            Query(f"slo:burn:rate{duration(burn.long_s)}", f"{{{{slo}}}}, {duration(burn.long_s)}")
            for burn in spec.burns
        ),
        width=12,
        warn=rates[0],
        alarm=rates[-1],
    )


_ERROR: Final = "llm_ttft_forecast_error_seconds"
_CACHE: Final = "llm_cache_requests_total"
_SERVED: Final = f'{HERE}, result="hit"'
_FOUND: Final = f'{HERE}, result=~"hit|miss"'

_MODELS: Final = (
    Panel(
        title="Worker restarts",
        about="Workers replaced within 15 minutes by why, and requests found to end them.",
        queries=(
            Query(
                f"sum by (model, reason) (increase(llm_worker_restarts_total{{{OF_MODEL}}}[15m]))",
                "{{model}}: {{reason}}",
            ),
            Query(
                f"sum by (model) (increase(llm_poisoned_requests_total{{{OF_MODEL}}}[15m]))",
                "{{model}}: poisoned requests",
            ),
            Query(
                f"sum by (model) (increase(llm_retries_total{{{OF_MODEL}}}[15m]))",
                "{{model}}: requests that went on elsewhere",
            ),
        ),
        warn=1,
        alarm=2.5,
    ),
    Panel(
        title="Model loads",
        about="Loads within 15 minutes that succeeded, and that failed; the log says why.",
        queries=(
            Query(
                f"sum by (model) (increase(llm_model_load_time_seconds_count{{{OF_MODEL}}}[15m]))",
                "{{model}}: loaded",
            ),
            Query(
                f"sum by (model) (increase(llm_model_load_failures_total{{{OF_MODEL}}}[15m]))",
                "{{model}}: failed",
            ),
        ),
    ),
    Panel(
        title="Model load time",
        about="How long the last load took; 0: never loaded.",
        queries=(Query(f"llm_model_load_seconds{{{OF_MODEL}}}", "{{model}} {{instance}}"),),
        unit=Unit.SECONDS,
    ),
    Panel(
        title="Forecast error",
        about="Time to first token less what the door expected. Above 0: too hopeful, and requests"
        " are let in that will be late; below: some are refused for nothing.",
        queries=(
            Query(quantile(0.9, _ERROR, by="model"), "{{model}}, p90"),
            Query(quantile(0.1, _ERROR, by="model"), "{{model}}, p10"),
        ),
        unit=Unit.SECONDS,
        warn=1,
        alarm=2,
    ),
    Panel(
        title="Ledger",
        about="Requests received, less those that ended and those in flight: 0, or there is a"
        " defect.",
        queries=(Query(f"llm_ledger_imbalance{{{HERE}}}", "{{instance}}"),),
        alarm=1,
    ),
    Panel(
        title="Cache of answers",
        about="Share of the requests that it might serve that it served.",
        queries=(
            Query(
                f"sum({rate(_CACHE, _SERVED)}) / (sum({rate(_CACHE, _FOUND)}) > 0)",
                "served",
            ),
        ),
        unit=Unit.RATIO,
    ),
    Panel(
        title="KV cache",
        about="Share of each engine's KV blocks in use. Near 1 sequences are preempted.",
        queries=(Query(f"llm_kv_blocks_used_ratio{{{OF_MODEL}}}", "{{model}} {{instance}}"),),
        unit=Unit.RATIO,
        warn=0.9,
        alarm=0.98,
    ),
    Panel(
        title="Sequences in engines",
        about="As engines count them; waiting for long: the door lets in more than they run.",
        queries=(
            Query(f"llm_engine_sequences_running{{{OF_MODEL}}}", "{{model}}, running"),
            Query(f"llm_engine_sequences_waiting{{{OF_MODEL}}}", "{{model}}, waiting"),
        ),
    ),
    Panel(
        title="Held",
        about="Places, leases and the like that are held now; above 0 at rest something leaks.",
        queries=(Query(f"sum by (kind) (llm_ledger_held{{{HERE}}})", "{{kind}}"),),
        kind=Kind.STACK,
    ),
)
