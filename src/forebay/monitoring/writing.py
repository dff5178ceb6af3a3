"""Every file that watches a service, made from the alerts and the objectives."""

from collections.abc import Mapping
from pathlib import Path

from forebay.monitoring.alert import Links
from forebay.monitoring.alertmanager import alertmanager
from forebay.monitoring.dashboards import files as dashboard_files
from forebay.monitoring.kibana import saved_objects
from forebay.monitoring.prometheus import prometheus
from forebay.monitoring.rules import rules
from forebay.policy.slo import Spec


def files(spec: Spec, links: Links, *, dashboards: bool = True) -> Mapping[str, str]:
    """Return the text of each file, by its path below `deploy/monitoring`.

    Raises DashboardsUnavailable where these are wanted and the library for them is missing.
    """
    return {
        "prometheus/prometheus.yml": prometheus(),
        "prometheus/rules/forebay.yml": rules(spec, links=links),
        "alertmanager/alertmanager.yml": alertmanager(spec),
        "kibana/forebay.ndjson": saved_objects(),
        **(dashboard_files(spec, links) if dashboards else {}),
    }


def write(folder: Path, spec: Spec, links: Links, *, dashboards: bool = True) -> tuple[Path, ...]:
    """Write every file below `folder`, and return where; others there are left alone."""
    written = []
    for name, text in files(spec, links, dashboards=dashboards).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return tuple(written)
