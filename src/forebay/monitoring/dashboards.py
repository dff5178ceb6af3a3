"""Every dashboard, and the files by which Grafana gets them."""

import importlib.util
from collections.abc import Mapping
from typing import Any, Final

from forebay.monitoring.alert import Links
from forebay.monitoring.alerts import alerts_of
from forebay.monitoring.document import rendered
from forebay.monitoring.panel import DATASOURCE, Dashboard
from forebay.monitoring.panels_alerting import alerting
from forebay.monitoring.panels_llm import llm
from forebay.monitoring.panels_resources import RESOURCES
from forebay.monitoring.panels_tenants import TENANTS
from forebay.policy.slo import Spec

_FOLDER: Final = "/etc/grafana/dashboards"
_DATASOURCES: Final = """\
Made by `forebay monitoring write`; do not edit. To /etc/grafana/provisioning/datasources. Every
panel asks the data source of this uid.
"""
_PROVIDERS: Final = f"""\
Made by `forebay monitoring write`; do not edit. To /etc/grafana/provisioning/dashboards; the
dashboards themselves go to {_FOLDER}.
"""


class DashboardsUnavailable(Exception):
    """The library that writes dashboards is not installed; the text says what to do."""


def dashboards(spec: Spec) -> tuple[Dashboard, ...]:
    """Return every dashboard, with the thresholds of these objectives."""
    return (llm(spec), RESOURCES, alerting(spec), TENANTS)


def files(spec: Spec, links: Links, *, prometheus: str = "http://localhost:9090") -> dict[str, str]:
    """Return path -> text, below `deploy/monitoring`; raises DashboardsUnavailable."""
    if importlib.util.find_spec("grafana_foundation_sdk") is None:
        raise DashboardsUnavailable(
            "Dashboards are written with grafana-foundation-sdk: pip install 'forebay[dashboards]'."
        )
    from forebay.monitoring import grafana  # noqa: PLC0415 - needs what is not always there

    runbooks: dict[str, list[tuple[str, str]]] = {}
    for alert in alerts_of(spec):
        runbooks.setdefault(alert.panel, []).append((alert.name, links.runbook(alert)))
    pages = {
        f"grafana/dashboards/{page.uid}.json": grafana.rendered(page, runbooks)
        for page in dashboards(spec)
    }
    return pages | {
        "grafana/provisioning/datasources/forebay.yaml": rendered(
            _datasources(prometheus), about=_DATASOURCES
        ),
        "grafana/provisioning/dashboards/forebay.yaml": rendered(_PROVIDER, about=_PROVIDERS),
    }


def _datasources(prometheus: str) -> Mapping[str, Any]:
    source = {
        "name": "Prometheus",
        "uid": DATASOURCE,
        "type": "prometheus",
        "access": "proxy",
        "url": prometheus,
        "isDefault": True,
        # As often as Prometheus scrapes: $__rate_interval is four times that.
        "jsonData": {"timeInterval": "15s", "httpMethod": "POST"},
    }
    return {"apiVersion": 1, "datasources": [source]}


_PROVIDER: Final = {
    "apiVersion": 1,
    "providers": [
        {
            "name": "forebay",
            "folder": "Forebay",
            "type": "file",
            "disableDeletion": True,
            "allowUiUpdates": False,
            "options": {"path": _FOLDER},
        }
    ],
}
