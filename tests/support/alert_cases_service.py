"""Cases of the alerts of what clients feel; see `alert_case.py`."""

from typing import Final

from tests.support.alert_case import Case, Scraped, Series

_HERE: Final = {"instance": "a:8000", "job": "forebay"}
_UP: Final = Scraped(_HERE)
_MODEL: Final = Scraped({**_HERE, "model": "m"})
_OF_MODEL: Final = {"model": "m"}


def _requests(**a_minute: float) -> Series:
    found: dict[str, str] = {}
    for outcome, count in a_minute.items():
        found |= _MODEL.grows(
            "llm_requests_total", count, outcome=outcome, route="chat_completions"
        )
    return found


def _ttft(upto: dict[str, float]) -> Series:
    return _MODEL.histogram("llm_time_to_first_token_seconds", upto)


def _durations(upto: dict[str, float], objective: str = "good") -> Series:
    return _MODEL.histogram("llm_request_duration_seconds", upto, objective=objective)


def _events(slo: str, *, good: str, bad: str) -> Series:
    return {
        **_UP.goes("llm_slo_events_total", good, slo=slo, result="good"),
        **_UP.goes("llm_slo_events_total", bad, slo=slo, result="bad"),
    }


AVAILABILITY: Final = (
    Case(
        alert="ForebayDown",
        about="nothing has come for a minute",
        series=_UP.goes("up", "1+0x10 0+0x10"),
        at="13m",
        labels=_HERE,
    ),
    Case(
        alert="ForebayDown",
        about="Prometheus knows of no server at all",
        series={},
        labels={"job": "forebay"},
        blank=("instance",),
    ),
    Case(
        alert="ForebayDown",
        about="two scrapes failed, and the next came",
        series=_UP.goes("up", "1+0x10 0 0 1+0x10"),
        interval="15s",
        looked="15s",
        at="3m",
    ),
    Case(
        alert="NotReady",
        about="not ready for over five minutes",
        series=_UP.goes("forebay_ready", "1+0x10 0+0x10"),
        at="17m",
        labels=_HERE,
    ),
    Case(
        alert="NotReady",
        about="a restart of under five minutes",
        series=_UP.goes("forebay_ready", "1+0x10 0+0x3 1+0x10"),
        at="16m",
    ),
    Case(
        alert="VeryHighErrorRate",
        about="11 % fail",
        series=_requests(ok=89, engine_error=6, overloaded=5),
        at="10m",
        labels=_OF_MODEL,
        shown="11%",
    ),
    Case(alert="VeryHighErrorRate", about="9.9 % fail", series=_requests(ok=901, timed_out=99)),
    Case(
        alert="VeryHighErrorRate",
        about="half fail, of eight in five minutes",
        series=_requests(ok=0.8, engine_error=0.8),
    ),
    Case(
        alert="VeryHighErrorRate",
        about="half are the callers' own fault",
        series=_requests(ok=50, invalid=30, rate_limited=20, cancelled=10, draining=5),
    ),
    Case(
        alert="VeryHighErrorRate",
        about="a shadow model fails, for which nobody waits",
        series={
            **_requests(ok=50),
            **_MODEL.grows("llm_requests_total", 50, outcome="engine_error", route="shadow"),
        },
    ),
    Case(
        alert="HighErrorRate",
        about="6 % fail",
        series=_requests(ok=94, internal_error=6),
        at="12m",
        labels=_OF_MODEL,
        shown="6%",
    ),
    Case(alert="HighErrorRate", about="4.9 % fail", series=_requests(ok=951, expired=49)),
    Case(
        alert="HighErrorRate",
        about="all fail, of four in five minutes",
        series=_requests(ok=0, engine_error=0.8),
    ),
)

BUDGET: Final = (
    Case(
        alert="ErrorBudgetBurnFast",
        about="80 % are late where 5 % may be",
        series=_events("ttft_interactive", good="0+20x40", bad="0+80x40"),
        labels={"slo": "ttft_interactive"},
        shown="16",
    ),
    Case(
        alert="ErrorBudgetBurnFast",
        about="70 % are late where 72 % would be a page",
        series=_events("ttft_interactive", good="0+30x40", bad="0+70x40"),
    ),
    Case(
        alert="ErrorBudgetBurnFast",
        about="the hour was bad, the last five minutes were not",
        series=_events("ttft_interactive", good="0+1x50 60+90x10", bad="0+99x50 4950+9x10"),
        at="60m",
        looked="5m",
    ),
    Case(
        alert="ErrorBudgetBurnFast",
        about="four requests of a night, all failed",
        series=_events("availability_interactive", good="0+0x40", bad="0+0x10 1 2 3 4+0x30"),
        at="14m",
    ),
    Case(
        alert="ErrorBudgetBurn",
        about="3.1 % fail where 0.5 % may",
        series=_events("availability_interactive", good="0+969x40", bad="0+31x40"),
        labels={"slo": "availability_interactive"},
        shown="6.2",
    ),
    Case(
        alert="ErrorBudgetBurn",
        about="2.9 % fail where 3 % would be a page",
        series=_events("availability_interactive", good="0+971x40", bad="0+29x40"),
    ),
    Case(
        alert="ErrorBudgetBurnSlow",
        about="0.12 % of the streams break where 0.1 % may",
        series=_events("stream_completeness", good="0+9988x40", bad="0+12x40"),
        labels={"slo": "stream_completeness"},
        shown="1.2",
    ),
    Case(
        alert="ErrorBudgetBurnSlow",
        about="0.09 % of the streams break",
        series=_events("stream_completeness", good="0+9991x40", bad="0+9x40"),
    ),
)

LATENCY: Final = (
    Case(
        alert="VerySlowFirstToken",
        about="p95 of 5.4 s",
        series=_ttft({"2.5": 20, "5.0": 94, "7.5": 100}),
        labels=_OF_MODEL,
        shown="5.417s",
    ),
    Case(
        alert="VerySlowFirstToken",
        about="p95 of 4.9 s",
        series=_ttft({"2.5": 20, "5.0": 96, "7.5": 100}),
    ),
    Case(
        alert="VerySlowFirstToken",
        about="nine in five minutes, all slow",
        series=_ttft({"5.0": 0, "7.5": 1.8}),
    ),
    Case(
        alert="SlowFirstToken",
        about="p95 of 2.4 s",
        series=_ttft({"1.0": 0, "2.5": 100}),
        labels=_OF_MODEL,
        shown="2.425s",
    ),
    Case(alert="SlowFirstToken", about="p95 of 1.96 s", series=_ttft({"1.0": 86, "2.5": 100})),
    Case(
        alert="HighResponseTime",
        about="p95 of 15 s",
        series=_durations({"10.24": 90, "20.48": 100}),
        labels=_OF_MODEL,
        shown="15.36s",
    ),
    Case(
        alert="HighResponseTime",
        about="p95 of 9.98 s",
        series=_durations({"5.12": 0, "10.24": 100}),
    ),
    Case(
        alert="HighResponseTime",
        about="only those are slow that failed",
        series={
            **_durations({"5.12": 100}),
            **_durations({"5.12": 0, "20.48": 100}, objective="bad"),
        },
    ),
    Case(
        alert="LowTokenRate",
        about="9 tokens/s, and never idle",
        series={
            **_MODEL.grows("llm_generation_tokens_total", 540),
            **_MODEL.flat("llm_requests_running", 1),
        },
        labels={"model": "m", "instance": "a:8000"},
        shown="9",
    ),
    Case(
        alert="LowTokenRate",
        about="10.5 tokens/s",
        series={
            **_MODEL.grows("llm_generation_tokens_total", 630),
            **_MODEL.flat("llm_requests_running", 1),
        },
    ),
    Case(
        alert="LowTokenRate",
        about="9 tokens/s, with pauses",
        series={
            **_MODEL.grows("llm_generation_tokens_total", 540),
            **_MODEL.goes("llm_requests_running", "0+0x4 1 1 0 1 1 1 0 1 1 1 0 1 1 1 0 1 1 1 0"),
        },
        at="18m",
    ),
    Case(
        alert="LowTokenRate",
        about="a model that makes vectors",
        series={
            **_MODEL.flat("llm_generation_tokens_total", 0),
            **_MODEL.flat("llm_requests_running", 3),
        },
    ),
)

SERVICE_CASES: Final = (*AVAILABILITY, *BUDGET, *LATENCY)
