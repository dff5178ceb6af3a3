"""Every file that watches a service, made from the alerts and the objectives."""

from collections.abc import Mapping
from pathlib import Path

from forebay.monitoring.alertmanager import alertmanager
from forebay.monitoring.prometheus import prometheus
from forebay.monitoring.rules import Links, rules
from forebay.policy.slo import Spec


def files(spec: Spec, links: Links) -> Mapping[str, str]:
    """Return the text of each file, by its path below `deploy/monitoring`."""
    return {
        "prometheus/prometheus.yml": prometheus(),
        "prometheus/rules/forebay.yml": rules(spec, links=links),
        "alertmanager/alertmanager.yml": alertmanager(spec),
    }


def write(folder: Path, spec: Spec, links: Links) -> tuple[Path, ...]:
    """Write every file below `folder`, and return where; others there are left alone."""
    written = []
    for name, text in files(spec, links).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return tuple(written)
