"""Alerts of what the service writes down: accounts, the shared store, usage, telemetry."""

from typing import Final

from forebay.monitoring.alert import Alert, Area, Severity

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3_600.0

ACCOUNTS: Final = (
    Alert(
        name="AccountsDegraded",
        expr="llm_books_degraded == 1",
        hold_s=_MINUTE_S,
        severity=Severity.PAGE,
        area=Area.ACCOUNTS,
        summary="The accounts database of {{ $labels.instance }} takes nothing.",
        description="What was spent is not written down. Callers with budgets are refused until it"
        " is back; what waits longer than it may is lost.",
        panel="tenants/Accounts database",
    ),
    Alert(
        name="UsageLost",
        expr="increase(llm_usage_rows_lost_total[$15m]) > 0",
        hold_s=0.0,
        keep_s=_HOUR_S,
        severity=Severity.TICKET,
        area=Area.ACCOUNTS,
        summary="{{ $labels.instance }} lost rows of the usage ledger.",
        description="About {{ $value | humanize }} requests were served and will never be charged:"
        " the accounts database was away for too long.",
        panel="tenants/Usage rows",
    ),
    Alert(
        name="StoreDegraded",
        expr="llm_store_degraded == 1 or llm_limits_degraded == 1",
        hold_s=2 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.ACCOUNTS,
        summary="{{ $labels.instance }} has lost the shared store.",
        description="Redis does not answer. Idempotency keys hold within this replica only, and"
        " each replica allows its part of every rate by itself.",
        panel="resources/Shared store",
    ),
)

TELEMETRY: Final = (
    Alert(
        name="TelemetryDropped",
        expr="sum by (instance, sink) (increase(forebay_telemetry_dropped_total[$15m])) > 0",
        hold_s=0.0,
        keep_s=15 * _MINUTE_S,
        severity=Severity.TICKET,
        area=Area.TELEMETRY,
        summary="{{ $labels.instance }} drops its {{ $labels.sink }}.",
        description="About {{ $value | humanize }} of them were dropped within 15 minutes, because"
        " what takes them is slow or gone. Requests are served as ever.",
        panel="resources/Telemetry dropped",
    ),
    Alert(
        name="DeadMansSwitch",
        expr="vector(1)",
        hold_s=0.0,
        severity=Severity.NONE,
        area=Area.TELEMETRY,
        summary="Prometheus and Alertmanager work.",
        description="This alert always fires. What receives it must raise the alarm when it stops"
        " coming: then nobody would hear of any other.",
        panel="alerting/Dead man's switch",
    ),
)
