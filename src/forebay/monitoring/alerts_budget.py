"""Alerts of error budgets that go too fast, made from the specification's table of burn rates."""

from typing import Final

from forebay.monitoring.alert import Alert, Area, Severity, duration
from forebay.policy.slo import Burn
from forebay.policy.slo_budget import BAD_LEAST

_DAY_S: Final = 86_400


def budget_alert(burn: Burn, window_s: int) -> Alert:
    """Return the alert of one burn rate; the names with colons are `monitoring/records.py`'s."""
    long, short, rate = duration(burn.long_s), duration(burn.short_s), f"{burn.rate:g}"
    share = burn.rate * burn.long_s / window_s
    return Alert(
        name=burn.alert,
        expr=f"slo:burn:rate{long} > {rate} and on (slo) slo:burn:rate{short} > {rate}"
        f" and on (slo) slo:bad:increase{long} >= {BAD_LEAST}",
        hold_s=0.0,
        severity=Severity(burn.severity),
        area=Area.AVAILABILITY,
        summary="The error budget of {{ $labels.slo }} is gone in"
        f" {_about(window_s / burn.rate)} at this rate.",
        description="It burns {{ $value | humanize }} times as fast as it may:"
        f" {share:.0%} of the budget of {_about(window_s)} went in the last {long}, and it goes"
        " on.",
        panel="llm/Error budget burn",
    )


def _about(seconds: float) -> str:
    return f"{seconds / _DAY_S:.0f} days" if seconds >= 2 * _DAY_S else duration(round(seconds))
