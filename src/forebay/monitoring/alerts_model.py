"""Alerts of the models, their workers and the door before them."""

from typing import Final

from forebay.monitoring.alert import Alert, Area, Severity

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3_600.0

_ERROR: Final = "llm_ttft_forecast_error_seconds"
_ERROR_BY_LE: Final = f"sum by (model, le) (rate({_ERROR}_bucket[$15m]))"
_CACHE: Final = "llm_cache_requests_total"


def _hit_ratio(window: str) -> str:
    hits = f'sum(rate({_CACHE}{{result="hit"}}[{window}]))'
    return f'({hits} / sum(rate({_CACHE}{{result=~"hit|miss"}}[{window}])))'


MODEL: Final = (
    Alert(
        name="WorkerCrashLoop",
        # An increase is extrapolated: three restarts may read as 2.9.
        expr="sum by (model, instance) (increase(llm_worker_restarts_total[$15m])) > 2.5",
        hold_s=0.0,
        keep_s=10 * _MINUTE_S,
        severity=Severity.PAGE,
        area=Area.MODEL,
        summary="The workers of {{ $labels.model }} on {{ $labels.instance }} end again and again.",
        description="About {{ $value | humanize }} workers were replaced within 15 minutes;"
        " each loads the model again, and requests wait or are refused meanwhile.",
        panel="llm/Worker restarts",
    ),
    Alert(
        name="PoisonedRequests",
        expr="sum by (model) (increase(llm_poisoned_requests_total[$15m])) > 0",
        hold_s=0.0,
        keep_s=_HOUR_S,
        severity=Severity.TICKET,
        area=Area.MODEL,
        summary="A request ends the workers of {{ $labels.model }}.",
        description="The same request ended more than one worker; it is refused for a while. It"
        " shows a defect of the engine.",
        panel="llm/Worker restarts",
    ),
    Alert(
        name="ModelLoadFailures",
        # Of failures, not of loads: the number of loads grows with every success.
        expr="sum by (model, instance) (increase(llm_model_load_failures_total[$15m])) > 0",
        hold_s=0.0,
        keep_s=15 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MODEL,
        summary="{{ $labels.model }} could not be loaded on {{ $labels.instance }}.",
        description="About {{ $value | humanize }} loads failed within 15 minutes. Requests for"
        " this model are refused until one succeeds.",
        panel="llm/Model loads",
    ),
    Alert(
        name="Saturated",
        expr="avg_over_time(llm_saturation_ratio[$5m]) > 1",
        hold_s=10 * _MINUTE_S,
        keep_s=5 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MODEL,
        summary="Requests for {{ $labels.model }} wait on {{ $labels.instance }}.",
        description="{{ $value | humanize }} requests per place for ten minutes: demand is over"
        " what this server does. Some wait, then some are refused.",
        panel="llm/Saturation",
    ),
    Alert(
        name="ForecastOff",
        # Nine of ten within two seconds: the interactive class's objective is two.
        expr=f"(histogram_quantile(0.9, {_ERROR_BY_LE}) > 2"
        f" or histogram_quantile(0.1, {_ERROR_BY_LE}) < -2)"
        # Its buckets are below 0 as well, so the page has no count of it.
        f' and on (model) sum by (model) (increase({_ERROR}_bucket{{le="+Inf"}}[$15m])) >= 20',
        hold_s=5 * _MINUTE_S,
        keep_s=5 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MODEL,
        summary="The door of {{ $labels.model }} expects other waits than there are.",
        description="One in ten is off by {{ $value | humanize }} s. Above 0: requests are let in"
        " that will be late; below: some are refused that would have been in time.",
        panel="llm/Forecast error",
    ),
    Alert(
        name="LedgerBroken",
        expr="llm_ledger_imbalance != 0",
        hold_s=_MINUTE_S,
        severity=Severity.PAGE,
        area=Area.MODEL,
        summary="{{ $labels.instance }} has lost count of its requests.",
        description="{{ $value }} requests were received and neither ended nor are in flight (or"
        " ended twice). It is a defect: places, budgets or readers may leak.",
        panel="llm/Ledger",
    ),
    Alert(
        name="CacheCollapse",
        expr=f"{_hit_ratio('$15m')} < 0.5 * {_hit_ratio('$6h')}"
        f" and {_hit_ratio('$6h')} > 0.1"
        f' and sum(increase({_CACHE}{{result=~"hit|miss"}}[$15m])) >= 50',
        hold_s=5 * _MINUTE_S,
        keep_s=5 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.MODEL,
        summary="The cache of answers serves less than half of what it did.",
        description="{{ $value | humanizePercentage }} of the requests that it might serve find an"
        " answer; every other one is computed anew.",
        panel="llm/Cache of answers",
    ),
)
