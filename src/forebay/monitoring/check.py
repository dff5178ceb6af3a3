"""Walk the chain of monitoring on a running deployment, from the server to whoever is told.

Each link that is there is asked with a request of its own; what nobody named is said to be not
asked.  Nothing is changed but by a request of two tokens, and by a test alert that was wished for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from forebay.monitoring import check_views
from forebay.monitoring.alert import Severity
from forebay.monitoring.check_alertmanager import AlertmanagerCheck
from forebay.monitoring.check_prometheus import PrometheusCheck
from forebay.monitoring.check_server import ServerCheck
from forebay.monitoring.finding import Finding, Link, Report
from forebay.monitoring.site import Site
from forebay.policy.slo import Spec

_MISSHAPEN: Final = (AttributeError, LookupError, TypeError, ValueError)
"""What reading JSON of another shape than a link's own raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Where each link is; None: nobody named it."""

    server: Site
    spec: Spec
    """The objectives whose rules are to be there."""
    prometheus: Site | None = None
    alertmanager: Site | None = None
    grafana: Site | None = None
    search: Site | None = None
    test_alerts: tuple[Severity, ...] = ()
    """What Alertmanager is to be sent as a trial."""

    def findings(self) -> Iterator[Finding]:
        """Yield a line per thing that is there or missing, in the order of the chain."""
        server = ServerCheck(site=self.server)
        yield from _readable(Link.SERVER, server.findings())
        if self.prometheus is None:
            yield _not_named(Link.PROMETHEUS)
        else:
            prometheus = PrometheusCheck(site=self.prometheus, page=server.page, spec=self.spec)
            yield from _readable(Link.PROMETHEUS, prometheus.findings())
        if self.alertmanager is None:
            yield _not_named(Link.ALERTMANAGER)
        else:
            alertmanager = AlertmanagerCheck(site=self.alertmanager, test_alerts=self.test_alerts)
            yield from _readable(Link.ALERTMANAGER, alertmanager.findings())
        if self.grafana is None:
            yield _not_named(Link.GRAFANA)
        else:
            yield from _readable(Link.GRAFANA, check_views.grafana(self.grafana, self.spec))
        if self.search is None:
            yield _not_named(Link.SEARCH)
        else:
            search = check_views.SearchCheck(site=self.search, request_id=server.request_id)
            yield from _readable(Link.SEARCH, search.findings())
        yield from check_views.traces(server.page)


def _readable(link: Link, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield a link's lines; an answer that is not of its kind is one, and the walk goes on."""
    try:
        yield from findings
    except _MISSHAPEN:
        yield Report(link).missing(
            f"It answers JSON, but not as {link} does.", f"Name the address of {link} itself."
        )


def _not_named(link: Link) -> Finding:
    return Report(link).not_asked(f"No address of {link}.", f"Add --{link} URL.")
