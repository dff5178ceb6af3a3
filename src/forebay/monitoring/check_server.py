"""The server's own links: its probes, its metrics, and what one real request leaves behind."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from forebay.monitoring.finding import Finding, Link, Report
from forebay.monitoring.samples import OPENMETRICS, Samples, parsed
from forebay.monitoring.site import Answer, Site, Unanswered
from forebay.telemetry.alias_table import ALIAS_TABLE
from forebay.telemetry.aliases import AliasSet
from forebay.telemetry.catalogue import CATALOGUE
from forebay.telemetry.metric import Kind

KEY_FIX: Final = "Show a key: export FOREBAY_KEY=..., of a user with the role operator."
ONLY_WITH: Final[Mapping[str, str]] = {
    "forebay_gpu_": "a GPU and nvidia-ml-py",
    "forebay_certificate_": "TLS",
}
"""Beginnings of names -> what a server has to have for them."""
_COUNTED: Final = frozenset(
    metric.name + ("_count" if metric.kind is Kind.HISTOGRAM else "") for metric in CATALOGUE
)
"""What a request may move: canonical names; aliases only say the same again."""
_DENIED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_SETTLED_S_MAX: Final = 3.0
"""Hooks read a request right after its answer; the log's lines wait 50 ms for others."""
_NAP_S: Final = 0.1
_QUESTION: Final = "Say one word."
_TOKENS: Final = 2


@dataclass(slots=True, kw_only=True)
class ServerCheck:
    """Asks the server; keeps what later links are looked for by."""

    site: Site
    request_id: str = ""
    """The request that was made; empty: none was."""
    page: Samples | None = None
    """The newest page of metrics."""
    _served: str = field(default="", repr=False)

    def findings(self) -> Iterator[Finding]:
        """Yield what is there, link by link."""
        say = Report(Link.SERVER)
        try:
            yield from self._probes(say)
            yield from self._metrics(Report(Link.METRICS))
            yield from self._request(Report(Link.REQUEST))
            yield from self._objectives(say)
        except Unanswered as why:
            yield say.missing(str(why), "Start it, or name its address: check-monitoring URL.")

    def _probes(self, say: Report) -> Iterator[Finding]:
        if self.site.get("/livez").well:
            yield say.ok("It lives: /livez answers 200.")
        else:
            yield say.missing("/livez does not answer 200.", "Is this address a Forebay server?")
        ready = self.site.get("/readyz")
        if ready.well:
            yield say.ok("It takes requests: /readyz answers 200.")
        else:
            why = ready.data().get("status", "")
            yield say.missing(f"/readyz answers {ready.status}: {why}.", "See runbook NotReady.")

    def _metrics(self, say: Report) -> Iterator[Finding]:
        answer = self._scrape()
        if answer.status in _DENIED:
            yield say.missing(f"/metrics answers {answer.status}.", KEY_FIX)
            return
        if not answer.well:
            fix = "Set metrics.enabled to true, and ask under metrics.path."
            yield say.missing(f"/metrics answers {answer.status}.", fix)
            return
        self.page = _samples(answer)
        yield say.ok(f"/metrics is read: {len(self.page.values)} samples.")
        yield from self._names(say, self.page.families)

    def _names(self, say: Report, found: frozenset[str]) -> Iterator[Finding]:
        wanted = {metric.name.removesuffix("_total"): metric.name for metric in CATALOGUE}
        lacking = sorted(name for family, name in wanted.items() if family not in found)
        for beginning, need in ONLY_WITH.items():
            if absent := [name for name in lacking if name.startswith(beginning)]:
                fix = "Nothing, if it has none."
                yield say.not_asked(f"{beginning}* comes with {need} only.", fix)
                lacking = [name for name in lacking if name not in absent]
        if lacking:
            yield say.missing(
                f"{len(lacking)} of {len(wanted)} names are not there: {', '.join(lacking)}.",
                "Ask with the forebay of the server's own version (forebay_build_info).",
            )
        else:
            yield say.ok("Every name of docs/metrics.md is there.")
        yield from _aliases(say, found)
        if left_out := self.page.total("forebay_alias_names_left_out") if self.page else 0.0:
            fix = "Raise metrics.series_max, or serve fewer models."
            yield say.missing(f"{left_out:g} names of metrics.aliases did not fit.", fix)

    def _request(self, say: Report) -> Iterator[Finding]:
        if self.page is None:
            yield say.not_asked("A request of its own.", "Mend what is missing of the metrics.")
            return
        before = self.page
        model = self._model()
        if not model:
            yield say.missing("No model is in memory.", "See runbook ModelLoadFailures.")
            return
        answer = self.site.post(
            "/v1/chat/completions",
            {
                "model": model,
                "max_tokens": _TOKENS,
                "messages": [{"role": "user", "content": _QUESTION}],
            },
            {"Cache-Control": "no-store"},
        )
        self.request_id = answer.headers.get("x-request-id", "")
        if answer.status in _DENIED:
            yield say.missing(f"A request of its own is answered {answer.status}.", KEY_FIX)
        elif not answer.well:
            code = (answer.data().get("error") or {}).get("code", "")
            fix = f"See docs/errors.md; the log has the line of request_id {self.request_id}."
            yield say.missing(f"A request of its own is answered {answer.status} {code}.", fix)
        else:
            yield say.ok(f"{model} answers; request {self.request_id}.")
            yield from self._counters(say, before, _expected(model, answer.data()))
            yield from self._receipt(say, answer)

    def _counters(
        self, say: Report, before: Samples, expected: "tuple[_Expected, ...]"
    ) -> Iterator[Finding]:
        until = time.monotonic() + _SETTLED_S_MAX
        while True:
            now = _samples(self._scrape())
            still = [each for each in expected if each.growth(before, now) < each.by]
            if not still or time.monotonic() > until:
                break
            time.sleep(_NAP_S)
        self.page = now
        for each in still:
            yield say.missing(
                f"{each} moved by {each.growth(before, now):g}, not by {each.by:g}.",
                "Report it: a request was not counted.",
            )
        if not still:
            more = [each for each in expected if each.growth(before, now) > each.by]
            others = " Others asked meanwhile." if more else ""
            ours = ((name, by) for name, by in now.moved(before) if name in _COUNTED)
            moved = ", ".join(f"{name} +{by:g}" for name, by in ours)
            yield say.ok(f"It moved what it should.{others} Moved: {moved}.")

    def _receipt(self, say: Report, answer: Answer) -> Iterator[Finding]:
        if timing := answer.headers.get("server-timing", ""):
            yield say.ok(f"Server-Timing: {timing}")
        else:
            yield say.missing(
                "The answer has no Server-Timing.", "Set gateway.server_timing to true."
            )
        path = f"/v1/requests/{self.request_id}"
        receipt = self.site.get(path)
        if receipt.well:
            yield say.ok(f"{path} has its receipt.")
        elif receipt.status in _DENIED:
            yield say.missing(f"{path} answers {receipt.status}.", KEY_FIX)
        else:
            yield say.missing(
                f"{path} answers {receipt.status}.", "Set receipts.kept_max above 0, and restart."
            )

    def _objectives(self, say: Report) -> Iterator[Finding]:
        answer = self.site.get("/admin/slo")
        if answer.well:
            names = [str(each.get("name", "")) for each in answer.data().get("objectives", [])]
            yield say.ok(f"/admin/slo tells of {', '.join(names) or 'no objective'}.")
        elif answer.status in _DENIED:
            yield say.missing(f"/admin/slo answers {answer.status}.", KEY_FIX)
        else:
            fix = "Upgrade the server: this one keeps no objectives."
            yield say.missing(f"/admin/slo answers {answer.status}.", fix)

    def _scrape(self) -> Answer:
        return self.site.with_headers({"Accept": OPENMETRICS}).get("/metrics")

    def _model(self) -> str:
        """Return a model that is in memory: its answer costs no load."""
        models = self.site.get("/health").data().get("models") or [{}]
        return str(models[0].get("id", ""))


def _aliases(say: Report, found: frozenset[str]) -> Iterator[Finding]:
    for each in AliasSet:
        names = {alias.name.removesuffix("_total") for alias in ALIAS_TABLE if alias.set is each}
        if names & found:
            yield say.ok(f"The aliases of {each} are on.")
        else:
            yield say.not_asked(f"The aliases of {each} are off.", "Name it in metrics.aliases.")


def _samples(answer: Answer) -> Samples:
    try:
        return parsed(answer.body.decode())
    except ValueError:
        raise Unanswered("/metrics is no page of OpenMetrics: Prometheus cannot read it.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    """A counter that one request moves, and by how much."""

    name: str
    by: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}{{{', '.join(f'{k}={v}' for k, v in self.labels.items())}}}"

    def growth(self, before: Samples, now: Samples) -> float:
        return now.total(self.name, **self.labels) - before.total(self.name, **self.labels)


def _expected(model: str, answer: Mapping[str, Any]) -> tuple[_Expected, ...]:
    usage, by_model = answer["usage"], {"model": model}
    return (
        _Expected(
            name="llm_requests_total",
            labels={"route": "chat_completions", "outcome": "ok", **by_model},
        ),
        _Expected(name="llm_prompt_tokens_total", by=usage["prompt_tokens"], labels=by_model),
        _Expected(
            name="llm_generation_tokens_total", by=usage["completion_tokens"], labels=by_model
        ),
        _Expected(
            name="llm_request_duration_seconds_count", labels={"objective": "good", **by_model}
        ),
        _Expected(name="llm_time_to_first_token_seconds_count", labels=by_model),
        _Expected(
            name="forebay_http_requests_total",
            labels={"route": "chat_completions", "method": "POST", "status": "2xx"},
        ),
    )
