"""Walk the chain of monitoring on a running deployment, from the server to whoever is told.

Each link that is there is asked with a request of its own; what nobody named is said to be not
asked.  Nothing is changed but by a request of two tokens, and by a test alert that was wished for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from forebay.monitoring.check_server import ServerCheck
from forebay.monitoring.finding import Finding, Link, Report
from forebay.monitoring.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Where each link is; None: nobody named it."""

    server: Site
    prometheus: Site | None = None
    alertmanager: Site | None = None
    grafana: Site | None = None
    search: Site | None = None
    send_test_alert: bool = False

    def findings(self) -> Iterator[Finding]:
        """Yield a line per thing that is there or missing, in the order of the chain."""
        server = ServerCheck(site=self.server)
        yield from server.findings()
        for link, site in self._others():
            if site is None:
                yield Report(link).not_asked(f"No address of {link}.", f"Add --{link} URL.")

    def _others(self) -> Iterator[tuple[Link, Site | None]]:
        yield Link.PROMETHEUS, self.prometheus
        yield Link.ALERTMANAGER, self.alertmanager
        yield Link.GRAFANA, self.grafana
        yield Link.SEARCH, self.search
