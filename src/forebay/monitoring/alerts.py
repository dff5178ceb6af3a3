"""Every alert, as data: rules, runbooks, dashboards, docs and drills are made from it or tested.

`up` is Prometheus's own word on the scrape job `forebay`; names with a colon are records that
`monitoring/records.py` makes from the objectives.
"""

from typing import Final

from forebay.monitoring.alert import Alert
from forebay.monitoring.alerts_budget import BUDGET
from forebay.monitoring.alerts_machine import MACHINE
from forebay.monitoring.alerts_model import MODEL
from forebay.monitoring.alerts_records import ACCOUNTS, TELEMETRY
from forebay.monitoring.alerts_service import AVAILABILITY, LATENCY

ALERTS: Final[tuple[Alert, ...]] = (
    *(*AVAILABILITY, *BUDGET, *LATENCY),
    *(*MODEL, *MACHINE, *ACCOUNTS, *TELEMETRY),
)
"""In the order in which an operator should read them."""
