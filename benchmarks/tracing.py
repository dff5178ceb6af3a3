"""What tracing costs a request, part by part: `python -m benchmarks.tracing`.

The best of many short runs of each part, so that what else the machine does falls out.
"""

import gzip
import timeit
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from forebay.core.record import RequestRecord
from forebay.core.request import Route
from forebay.core.visit import Visit
from forebay.telemetry import otlp
from forebay.telemetry.otlp_config import TracesConfig
from forebay.telemetry.sampling import Kept
from forebay.telemetry.span_attributes import Told
from forebay.telemetry.spans import Anchor, spans_of
from forebay.telemetry.trace_context import Contexts
from forebay.telemetry.traces import Traces
from tests.support.records import a_completed

_HEADERS: Final = {b"host": b"llm.example", b"content-type": b"application/json"}
_GIVEN: Final = _HEADERS | {
    b"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
}
_REPEATS: Final = 200
_BATCH: Final = 64


def best_us(run: Callable[[], object], count: int = 500) -> float:
    """Return microseconds of one call, in the best of many series."""
    return min(timeit.repeat(run, number=count, repeat=_REPEATS)) / count * 1e6


def an_exchange(traces: Traces) -> tuple[Visit, RequestRecord]:
    """Return an exchange that is over, and its record."""
    visit = Visit(id="r", method="POST", path="/v1/chat/completions", received=1.0, ended=1.5)
    visit.route, visit.understood, visit.status = Route.CHAT_COMPLETIONS.value, 1.01, 200
    visit.trace = traces.contexts.of(_HEADERS, Route.CHAT_COMPLETIONS)
    return visit, replace(a_completed(), visit=visit)


def main() -> None:
    """Measure, and print a table."""
    off, chat = Contexts(), Route.CHAT_COMPLETIONS
    traces = Traces(TracesConfig(ratio=0.0), open_mode=True, put=lambda _: None)
    visit, record = an_exchange(traces)

    def decided() -> None:
        visit.trace = traces.contexts.of(_HEADERS, chat)
        traces(record)
        traces.over(visit)

    anchor, told, service = Anchor(0.0, 10**18), Told(), otlp.resource("forebay")
    spans = spans_of(visit, [record], kept=Kept.SHARE, anchor=anchor, told=told)
    batch = [otlp.readable(span, service) for span in spans] * _BATCH
    data = encode_spans(batch).SerializeToString()
    parts = {
        "event loop: off": best_us(lambda: off.of(_HEADERS, chat)),
        "event loop: off, a trace is given": best_us(lambda: off.of(_GIVEN, chat)),
        "event loop: on, begun and not kept": best_us(decided),
        "thread, if kept: spans": best_us(
            lambda: spans_of(visit, [record], kept=Kept.SHARE, anchor=anchor, told=told), 50
        ),
        "thread, if kept: as the exporter takes them": best_us(
            lambda: [otlp.readable(span, service) for span in spans], 50
        ),
        "thread, if kept: encoding": best_us(lambda: encode_spans(batch).SerializeToString(), 1)
        / _BATCH,
        "thread, if kept: gzip": best_us(lambda: gzip.compress(data), 1) / _BATCH,
    }
    for name, cost_us in parts.items():
        print(f"{name:46} {cost_us:8.2f} us")
    print(f"{'bytes of one exchange, ' + str(len(spans)) + ' spans':46} {len(data) / _BATCH:8.0f}")


if __name__ == "__main__":
    main()
