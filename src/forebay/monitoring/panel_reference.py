"""The page of dashboards, read from what they are made of."""

from collections.abc import Iterator
from typing import Final

from forebay.monitoring.alerts import ALERTS
from forebay.monitoring.dashboards import dashboards
from forebay.monitoring.panel import DATASOURCE, Dashboard
from forebay.serve.slo_file import built_in

_HEAD: Final = f"""\
# Dashboards

Four pages for Grafana 11 and later, in `deploy/monitoring/grafana`. They are made from the code,
with the thresholds of the [objectives](slo.md), and a panel that an [alert](alerts.md) names
links to the alert's runbook. [ADR 28](adr/0028-dashboards.md) says why, and what was tested:
every query on a real Prometheus. They were not rendered in Grafana.

Copy `provisioning/` to `/etc/grafana/provisioning` and `dashboards/` to
`/etc/grafana/dashboards`. In `provisioning/datasources/forebay.yaml` set where Prometheus is; its
uid, `{DATASOURCE}`, is the one that all panels ask. With objectives of your own, `forebay
monitoring write` makes all of it anew; that takes `pip install 'forebay[dashboards]'`. A panel
that is empty says so: GPUs, certificates and limits have numbers only where there are such.
"""


def dashboards_page() -> str:
    """Return what each panel says, and which alerts name it."""
    parts = [_HEAD]
    for page in dashboards(built_in()):
        parts += [f"## {page.title}", "", f"`/d/{page.uid}`. {page.about}", "", *_rows(page), ""]
    return "\n".join(parts)


def _rows(page: Dashboard) -> Iterator[str]:
    yield "| Panel | What it says | Alerts |"
    yield "| --- | --- | --- |"
    for panel in page.panels:
        name = f"{page.uid}/{panel.title}"
        alerts = (f"`{alert.name}`" for alert in ALERTS if alert.panel == name)
        yield f"| {panel.title} | {panel.about} | {', '.join(alerts)} |"
