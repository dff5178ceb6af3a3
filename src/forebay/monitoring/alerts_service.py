"""Alerts of what clients feel: no answer, wrong answers, late answers.

Which outcomes are failures says the outcome table, as for the objectives.  Each ratio has a guard
that counts events: one failure in a quiet hour is not a rate.
"""

from typing import Final

from forebay.core.errors import OUTCOMES, Objective
from forebay.monitoring.alert import Alert, Area, Severity

_MINUTE_S: Final = 60.0


def _p95(name: str, match: str = "") -> str:
    buckets = f"sum by (model, le) (rate({name}_bucket{match}[$5m]))"
    return f"histogram_quantile(0.95, {buckets})"


def _at_least(count: int, name: str, match: str = "") -> str:
    return f"and on (model) sum by (model) (increase({name}{match}[$5m])) >= {count}"


def _ended(*objectives: Objective) -> str:
    """Match requests by how the objective counts them; copies for shadow models are nobody's."""
    found = "|".join(name for name, row in OUTCOMES.items() if row.objective in objectives)
    return f'{{outcome=~"{found}", route!="shadow"}}'


_REQUESTS: Final = "llm_requests_total"
_BAD: Final = _ended(Objective.BAD)
_COUNTED: Final = _ended(Objective.GOOD, Objective.BAD)
_BAD_RATIO: Final = (
    f"sum by (model) (rate({_REQUESTS}{_BAD}[$5m]))"
    f" / sum by (model) (rate({_REQUESTS}{_COUNTED}[$5m]))"
)
_FIVE_BAD: Final = _at_least(5, _REQUESTS, _BAD)
_DURATION: Final = "llm_request_duration_seconds"
_GOOD: Final = '{objective="good"}'
_TTFT: Final = "llm_time_to_first_token_seconds"
_TEN_TTFT: Final = _at_least(10, f"{_TTFT}_count")


AVAILABILITY: Final = (
    Alert(
        name="ForebayDown",
        expr='up{job="forebay"} == 0 or absent(up{job="forebay"})',
        hold_s=_MINUTE_S,
        severity=Severity.PAGE,
        area=Area.AVAILABILITY,
        summary="Forebay {{ $labels.instance }} does not answer Prometheus.",
        description="Nothing has been scraped for a minute: the process, its host or the way there"
        " is gone. Its clients get nothing.",
        panel="llm/Up",
    ),
    Alert(
        name="NotReady",
        expr="forebay_ready == 0",
        hold_s=5 * _MINUTE_S,
        severity=Severity.PAGE,
        area=Area.AVAILABILITY,
        summary="{{ $labels.instance }} runs, and has taken no new requests for 5 minutes.",
        description="It answers probes and says that it is not ready: no model is loaded, or it"
        " drains and does not end. A load balancer sends it nothing.",
        panel="llm/Ready",
    ),
    Alert(
        name="VeryHighErrorRate",
        expr=f"{_BAD_RATIO} > 0.10 {_FIVE_BAD}",
        hold_s=2 * _MINUTE_S,
        keep_s=2 * _MINUTE_S,
        severity=Severity.PAGE,
        area=Area.AVAILABILITY,
        summary="More than 10 % of the requests for {{ $labels.model }} fail.",
        description="{{ $value | humanizePercentage }} of the requests that count failed by our"
        " fault (errors, timeouts, refusals for want of capacity).",
        panel="llm/Errors",
    ),
    Alert(
        name="HighErrorRate",
        expr=f"{_BAD_RATIO} > 0.05 {_FIVE_BAD}",
        hold_s=5 * _MINUTE_S,
        keep_s=5 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.AVAILABILITY,
        summary="More than 5 % of the requests for {{ $labels.model }} fail.",
        description="{{ $value | humanizePercentage }} of the requests that count failed by our"
        " fault (errors, timeouts, refusals for want of capacity).",
        panel="llm/Errors",
    ),
)

LATENCY: Final = (
    Alert(
        name="VerySlowFirstToken",
        expr=f"{_p95(_TTFT)} > 5 {_TEN_TTFT}",
        hold_s=2 * _MINUTE_S,
        keep_s=2 * _MINUTE_S,
        severity=Severity.PAGE,
        area=Area.LATENCY,
        summary="One in twenty waits over 5 s for the first token of {{ $labels.model }}.",
        description="p95 of the time to first token is {{ $value | humanizeDuration }}, with the"
        " queue and the prefill in it, of all classes together.",
        panel="llm/Time to first token",
    ),
    Alert(
        name="SlowFirstToken",
        expr=f"{_p95(_TTFT)} > 2 {_TEN_TTFT}",
        hold_s=5 * _MINUTE_S,
        keep_s=5 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.LATENCY,
        summary="One in twenty waits over 2 s for the first token of {{ $labels.model }}.",
        description="p95 of the time to first token is {{ $value | humanizeDuration }}, with the"
        " queue and the prefill in it, of all classes together.",
        panel="llm/Time to first token",
    ),
    Alert(
        name="HighResponseTime",
        # Of good ones only: a refusal is fast, and many of them would make all look well.
        expr=f"{_p95(_DURATION, _GOOD)} > 10 {_at_least(10, f'{_DURATION}_count', _GOOD)}",
        hold_s=5 * _MINUTE_S,
        keep_s=5 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.LATENCY,
        summary="One in twenty answers of {{ $labels.model }} takes over 10 s.",
        description="p95 of the duration of good answers is {{ $value | humanizeDuration }}: they"
        " wait longer, are longer, or are made more slowly.",
        panel="llm/Request duration",
    ),
    Alert(
        name="LowTokenRate",
        # An instance that was never idle; one that has made no token yet may be an embedder.
        expr="sum by (model, instance) (rate(llm_generation_tokens_total[$5m])) < 10"
        " and on (model, instance) min_over_time(llm_requests_running[$5m]) >= 1"
        " and on (model, instance) llm_generation_tokens_total > 0",
        hold_s=5 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.LATENCY,
        summary="{{ $labels.model }} on {{ $labels.instance }} makes under 10 tokens/s.",
        description="Only {{ $value | humanize }} tokens/s were finished, though requests ran all"
        " the time. Answers longer than five minutes count when they end.",
        panel="llm/Tokens per second",
    ),
)
