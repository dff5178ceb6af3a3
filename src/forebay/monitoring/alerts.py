"""Every alert, as data: rules, runbooks, dashboards, docs and drills are made from it or tested.

`up` is Prometheus's own word on the scrape job `forebay`; names with a colon are records that
`monitoring/records.py` makes from the objectives.
"""

from typing import Final

from forebay.monitoring.alert import Alert
from forebay.monitoring.alerts_budget import budget_alert
from forebay.monitoring.alerts_machine import MACHINE
from forebay.monitoring.alerts_model import MODEL
from forebay.monitoring.alerts_records import ACCOUNTS, TELEMETRY
from forebay.monitoring.alerts_service import AVAILABILITY, LATENCY
from forebay.policy.slo import Spec
from forebay.serve.slo_file import built_in


def alerts_of(spec: Spec) -> tuple[Alert, ...]:
    """Return every alert, in the order in which an operator should read them."""
    budget = (budget_alert(burn, spec.window_s) for burn in spec.burns)
    return (*AVAILABILITY, *budget, *LATENCY, *MODEL, *MACHINE, *ACCOUNTS, *TELEMETRY)


ALERTS: Final = alerts_of(built_in())
"""Those of the objectives of the package."""
