"""Records for tests: a request that ended, with everything that does not matter filled in."""

from forebay.core.errors import OUTCOMES, Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import (
    Admitted,
    Delta,
    EngineTiming,
    Finished,
    RequestId,
    Route,
    Scheduled,
    Source,
    Usage,
)
from forebay.core.visit import TraceContext, Visit
from tests.support.requests import a_request


def a_completed(
    *, model: str = "m", stream: bool = True, tokens: int = 3, source: Source = Source.ENGINE
) -> RequestRecord:
    """Received at 1 s, admitted 0.1 s later, first token at 1.3 s, then one each 0.02 s."""
    usage = Usage(prompt_tokens=5, completion_tokens=tokens)
    timeline = Timeline(received=1.0, source=source)
    timeline.saw(Admitted(), 1.1)
    timeline.saw(Scheduled(5), 1.1)
    for index in range(tokens):
        timeline.saw(Delta("x"), 1.3 + 0.02 * index)
    timeline.saw(Finished(usage, EngineTiming(first_token_s=0.19, decode_s=0.04)), 1.35)
    timeline.ended = 1.5
    return RequestRecord(
        id=RequestId("req-1"),
        route=Route.CHAT_COMPLETIONS,
        model=model,
        outcome=Outcome.OK,
        status=200,
        timeline=timeline,
        request=a_request(model=model, stream=stream),
        usage=usage,
    )


def a_visit(path: str = "/v1/chat/completions") -> Visit:
    """An exchange of a client that takes part in a trace."""
    trace = TraceContext(
        trace_id="0af7651916cd43dd8448eb211c80319c",
        parent_id="b7ad6b7169203331",
        span_id="00f067aa0ba902b7",
    )
    return Visit(
        id="req-1",
        method="POST",
        path=path,
        received=1.0,
        client="192.0.2.7",
        body_bytes=321,
        trace=trace,
    )


def a_refused(outcome: Outcome = Outcome.INVALID, *, model: str = "") -> RequestRecord:
    """Received at 1 s and turned away 2 ms later, before it could be understood."""
    return RequestRecord(
        id=RequestId("req-2"),
        route=Route.UNMATCHED,
        model=model,
        outcome=outcome,
        status=OUTCOMES[outcome].status,
        timeline=Timeline(received=1.0, ended=1.002),
        error="A fixed text.",
    )
