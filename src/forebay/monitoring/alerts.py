"""Every alert, as data: rules, runbooks, dashboards, docs and drills are made from it or tested.

`up` is Prometheus's own word on the scrape job `forebay`.
"""

from typing import Final

from forebay.monitoring.alert import Alert, Area, Severity

_MINUTE_S: Final = 60.0
_P95: Final = "histogram_quantile(0.95, sum by (model, le) (rate({name}_bucket{{{match}}}[$5m])))"


def _p95(name: str, match: str = "") -> str:
    return _P95.format(name=name, match=match)


_BAD: Final = 'outcome=~"overloaded|expired|timed_out|engine_error|internal_error"'
_COUNTED: Final = 'outcome=~"ok|overloaded|expired|timed_out|engine_error|internal_error"'
_ERRORS: Final = f"sum(rate(llm_requests_total{{{_BAD}}}[$5m])) / sum(rate(llm_requests_total{{{_COUNTED}}}[$5m]))"
_TTFT: Final = _p95("llm_time_to_first_token_seconds")

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
)

ALERTS: Final[tuple[Alert, ...]] = (*AVAILABILITY,)
"""In the order in which an operator should read them."""
