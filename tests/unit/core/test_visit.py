from forebay.core.visit import TraceContext, Visit, part

TRACE, PARENT, OWN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"


def test_a_server_behind_us_is_told_our_span_as_its_parent() -> None:
    trace = TraceContext(
        trace_id=TRACE, parent_id=PARENT, sampled=True, state="congo=1", span_id=OWN
    )
    assert trace.onward() == (
        f"traceparent: 00-{TRACE}-{OWN}-01\r\ntracestate: congo=1\r\n".encode()
    )


def test_where_no_span_is_made_the_trace_is_passed_on_as_it_came() -> None:
    trace = TraceContext(trace_id=TRACE, parent_id=PARENT)
    assert trace.onward() == f"traceparent: 00-{TRACE}-{PARENT}-00\r\n".encode()


def test_a_trace_without_any_span_leads_nowhere() -> None:
    assert TraceContext(trace_id=TRACE).onward() == b""


def test_a_part_of_an_exchange_is_in_its_trace() -> None:
    trace = TraceContext(trace_id=TRACE, span_id=OWN)
    whole = Visit(id="r", method="POST", path="/", received=1.0, trace=trace)
    one = part(whole, "r-0", 2.0)
    assert one is not None
    assert one.trace is trace
    assert one.received == 2.0
