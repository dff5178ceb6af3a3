"""Alerts of what clients feel: no answer, wrong answers, late answers, a budget that burns.

Error rates are taken from `llm_request_duration_seconds_count`, whose label `objective` is the
outcome table's own word on what is good, bad, or the caller's affair.  Each ratio has a guard that
counts events: one failure in a quiet hour is not a rate.
"""

from typing import Final

from forebay.monitoring.alert import Alert, Area, Severity

_MINUTE_S: Final = 60.0


def _p95(name: str, match: str = "") -> str:
    buckets = f"sum by (model, le) (rate({name}_bucket{match}[$5m]))"
    return f"histogram_quantile(0.95, {buckets})"


def _at_least(count: int, name: str, match: str = "") -> str:
    return f"and on (model) sum by (model) (increase({name}{match}[$5m])) >= {count}"


_ENDED: Final = "llm_request_duration_seconds_count"
_BAD: Final = '{objective="bad"}'
_GOOD: Final = '{objective="good"}'
_COUNTED: Final = '{objective=~"good|bad"}'
_BAD_RATIO: Final = (
    f"sum by (model) (rate({_ENDED}{_BAD}[$5m])) / sum by (model) (rate({_ENDED}{_COUNTED}[$5m]))"
)
_FIVE_BAD: Final = _at_least(5, _ENDED, _BAD)
_TTFT: Final = "llm_time_to_first_token_seconds"
_TEN_TTFT: Final = _at_least(10, f"{_TTFT}_count")


def _burns(rate: float, long: str, short: str) -> str:
    """Return the query for a burn rate over two windows; the records are `monitoring/rules.py`'s.

    Five bad events at least: a goal of 99.9 % would page for one failure among thirty requests.
    """
    return (
        f"slo:burn:rate{long} > {rate:g} and on (slo) slo:burn:rate{short} > {rate:g}"
        f" and on (slo) slo:bad:increase{long} >= 5"
    )


AVAILABILITY: Final = (
    Alert(
        name="ForebayDown",
        expr='up{job="forebay"} == 0 or absent(up{job="forebay"})',
        hold_s=_MINUTE_S,
        severity=Severity.PAGE,
        area=Area.AVAILABILITY,
        summary="{{ $labels.instance }} does not answer Prometheus.",
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

BUDGET: Final = (
    Alert(
        name="ErrorBudgetBurnFast",
        expr=_burns(14.4, "1h", "5m"),
        hold_s=0.0,
        severity=Severity.PAGE,
        area=Area.AVAILABILITY,
        summary="The error budget of {{ $labels.slo }} is gone in two days at this rate.",
        description="It burns {{ $value | humanize }} times as fast as it may: 2 % of thirty days'"
        " budget went in the last hour, and it goes on.",
        panel="llm/Error budget burn",
    ),
    Alert(
        name="ErrorBudgetBurn",
        expr=_burns(6, "6h", "30m"),
        hold_s=0.0,
        severity=Severity.PAGE,
        area=Area.AVAILABILITY,
        summary="The error budget of {{ $labels.slo }} is gone in five days at this rate.",
        description="It burns {{ $value | humanize }} times as fast as it may: 5 % of thirty days'"
        " budget went in the last six hours, and it goes on.",
        panel="llm/Error budget burn",
    ),
    Alert(
        name="ErrorBudgetBurnSlow",
        expr=_burns(1, "3d", "6h"),
        hold_s=0.0,
        severity=Severity.TICKET,
        area=Area.AVAILABILITY,
        summary="The error budget of {{ $labels.slo }} will not last its thirty days.",
        description="It burns {{ $value | humanize }} times as fast as it may: 10 % of thirty days'"
        " budget went in the last three days, and it goes on.",
        panel="llm/Error budget burn",
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
        expr=f"{_p95('llm_request_duration_seconds', _GOOD)} > 10 {_at_least(10, _ENDED, _GOOD)}",
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
