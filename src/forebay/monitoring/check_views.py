"""Where people look: Grafana's dashboards, the search over the log, traces."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from forebay.monitoring.dashboards import dashboards
from forebay.monitoring.finding import Finding, Link, Report
from forebay.monitoring.panel import DATASOURCE
from forebay.monitoring.samples import Samples
from forebay.monitoring.site import Site, Unanswered
from forebay.policy.slo import Spec

_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_TOKEN: Final = "Set GRAFANA_TOKEN to the token of a service account that may view."
_PROVISION: Final = "Run `forebay monitoring write DIR`; put grafana/ where Grafana reads it."
_INDEX: Final = "model-api-logs-*"
_FIELD: Final = "http.request.id"
_FOUND_S_MAX: Final = 30.0
"""rsyslog sends at once, Filebeat within seconds; an index is searchable after one more."""
_NAP_S: Final = 0.5


def grafana(site: Site, spec: Spec) -> Iterator[Finding]:
    """Yield whether Grafana has our data source and our dashboards."""
    say = Report(Link.GRAFANA)
    try:
        health = site.get("/api/health")
        if not health.well or health.data().get("database") != "ok":
            yield say.missing(f"/api/health answers {health.status}.", "See Grafana's own log.")
            return
        yield say.ok(f"It is well, version {health.data().get('version', 'unknown')}.")
        wanted = {f"/api/datasources/uid/{DATASOURCE}": f"the data source {DATASOURCE}"}
        wanted |= {
            f"/api/dashboards/uid/{page.uid}": f"the dashboard {page.uid}"
            for page in dashboards(spec)
        }
        for path, what in wanted.items():
            status = site.get(path).status
            if status == HTTPStatus.OK:
                yield say.ok(f"It has {what}.")
            elif status in _DENIED:
                yield say.missing(f"It does not let us see {what}: {status}.", _TOKEN)
            else:
                yield say.missing(f"It has no {what.removeprefix('the ')}: {status}.", _PROVISION)
    except Unanswered as why:
        yield say.missing(str(why), "Start it, or name its address: --grafana URL.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCheck:
    """Looks a request's line up in Elasticsearch or OpenSearch."""

    site: Site
    request_id: str
    """Empty: no request was made."""
    wait_s_max: float = _FOUND_S_MAX

    def findings(self) -> Iterator[Finding]:
        """Yield whether it answers, and finds the line."""
        say = Report(Link.SEARCH)
        try:
            first = self.site.get("/")
            if not first.well:
                fix = "Show a user that may search: https://user:password@host."
                yield say.missing(f"It answers {first.status}.", fix)
                return
            number = (first.data().get("version") or {}).get("number", "unknown")
            yield say.ok(f"It answers, version {number}.")
            if self.request_id:
                yield from self._line(say)
            else:
                yield say.not_asked("The line of a request.", "Mend the request above.")
        except Unanswered as why:
            yield say.missing(str(why), "Start it, or name its address: --search URL.")

    def _line(self, say: Report) -> Iterator[Finding]:
        began = time.monotonic()
        query = {"query": {"term": {_FIELD: self.request_id}}, "size": 1}
        while True:
            answer = self.site.post(f"/{_INDEX}/_search?ignore_unavailable=true", query)
            found = (answer.data().get("hits") or {}).get("hits") if answer.well else None
            took_s = time.monotonic() - began
            if found:
                yield say.ok(
                    f"It found the request's line in {found[0].get('_index')} after {took_s:.1f} s."
                )
                return
            if took_s > self.wait_s_max:
                break
            time.sleep(_NAP_S)
        said = f"answers {answer.status}" if not answer.well else "has not got it"
        yield say.missing(
            f"{_INDEX} {said}, {took_s:.0f} s after request {self.request_id}.",
            "Does log.requests hold, and what ships log.destination (deploy/monitoring/rsyslog)?",
        )


def traces(page: Samples | None) -> Iterator[Finding]:
    """Yield whether traces are sent, by the server's own counts."""
    say = Report(Link.TRACES)
    if page is None:
        yield say.not_asked("Whether traces are sent.", "Mend what is missing of the metrics.")
        return
    sent = page.total("forebay_telemetry_sent_total", sink="traces")
    dropped = page.total("forebay_telemetry_dropped_total", sink="traces")
    if not sent and not dropped:
        yield say.not_asked("No trace was sent.", "Set traces.endpoint to a collector's address.")
        return
    if dropped and not sent:
        fix = "See runbook TelemetryDropped: does the collector of traces.endpoint answer?"
        yield say.missing(f"All {dropped:g} traces were dropped.", fix)
    else:
        yield say.ok(f"{sent:g} traces were sent, {dropped:g} dropped.")
