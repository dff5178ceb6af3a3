import random
import re

import pytest

from forebay.core.request import Route
from forebay.core.visit import TraceContext
from forebay.telemetry.trace_context import STATE_CHARACTERS_MAX, Contexts, parsed, state_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01".encode()
CHAT = Route.CHAT_COMPLETIONS


def of(
    contexts: Contexts, given: bytes | None = GIVEN, state: bytes = b"", route: Route = CHAT
) -> TraceContext | None:
    headers = {b"tracestate": state} if state else {}
    return contexts.of(headers if given is None else headers | {b"traceparent": given}, route)


def spans(*, trusts: bool = True, ratio: float = 1.0, seed: int = 1) -> Contexts:
    return Contexts(spans=True, trusts=trusts, ratio=ratio, dice=random.Random(seed).getrandbits)


def test_the_example_of_the_standard_is_read() -> None:
    context = parsed(GIVEN, b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
    assert context == TraceContext(
        trace_id=TRACE,
        parent_id=SPAN,
        sampled=True,
        state="congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
    )


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_only_the_flag_that_is_defined_counts(flags: str, sampled: bool) -> None:
    context = parsed(f"00-{TRACE}-{SPAN}-{flags}".encode())
    assert context is not None
    assert context.sampled is sampled


@pytest.mark.parametrize(
    "given",
    [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01", f"fe-{TRACE}-{SPAN}-01-what-comes-later"],
)
def test_later_versions_are_read_as_far_as_they_are_known(given: str) -> None:
    context = parsed(given.encode())
    assert context is not None
    assert (context.trace_id, context.parent_id, context.sampled) == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01.more",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper().replace('0', 'A')}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-00",
        f" 00-{TRACE}-{SPAN}-01",
        "x" * 8_000,
        "\xff\xfe",
    ],
)
def test_what_is_not_valid_is_as_good_as_absent_and_a_trace_begins_here(given: str) -> None:
    raw = given.encode("latin-1")
    assert parsed(raw) is None
    assert of(Contexts(), raw) is None
    begun = of(spans(), raw, state=b"congo=1")
    assert begun is not None
    assert re.fullmatch("[0-9a-f]{32}", begun.trace_id)
    assert begun.trace_id != TRACE
    assert (begun.parent_id, begun.state) == ("", "")


def test_a_trace_that_begins_here_has_ids_of_its_own_each_time() -> None:
    contexts = spans()
    found = [of(contexts, None) for _ in range(200)]
    assert all(found)
    assert len({context.trace_id for context in found if context}) == 200
    assert len({context.span_id for context in found if context}) == 200
    for context in found:
        assert context is not None
        assert re.fullmatch("[0-9a-f]{16}", context.span_id)


def test_without_spans_a_trace_is_known_where_it_is_given_and_begun_nowhere() -> None:
    given = of(Contexts())
    assert given is not None
    assert (given.trace_id, given.parent_id, given.span_id) == (TRACE, SPAN, "")
    assert of(Contexts(), None) is None


@pytest.mark.parametrize("route", [Route.PROBE, Route.UNMATCHED])
def test_pages_and_what_is_nowhere_begin_no_trace(route: Route) -> None:
    assert of(spans(), None, route=route) is None
    given = of(spans(), route=route)
    assert given is not None
    assert (given.trace_id, given.span_id) == (TRACE, "")


def test_a_trusted_caller_says_which_traces_are_kept() -> None:
    for ratio in (0.0, 1.0):
        kept, dropped = of(spans(ratio=ratio)), of(spans(ratio=ratio), GIVEN[:-1] + b"0")
        assert kept is not None
        assert dropped is not None
        assert (kept.sampled, dropped.sampled) == (True, False)


def test_a_strangers_flag_and_state_count_for_nothing_but_its_trace_goes_on() -> None:
    given = of(spans(trusts=False, ratio=0.0), state=b"congo=1")
    assert given is not None
    assert (given.trace_id, given.parent_id) == (TRACE, SPAN)
    assert (given.sampled, given.state) == (False, "")
    passed = of(Contexts(trusts=False), state=b"congo=1")
    assert passed is not None
    assert (passed.sampled, passed.state) == (False, "")


def test_a_stranger_cannot_choose_a_trace_id_that_is_in_the_share() -> None:
    low = f"00-{'a' * 16}{'0' * 15}1-{SPAN}-01".encode()
    contexts = spans(trusts=False, ratio=0.01)
    kept = [of(contexts, low) for _ in range(1_000)]
    assert sum(context.sampled for context in kept if context) < 50


def test_the_share_is_kept_of_what_begins_here() -> None:
    contexts = spans(ratio=0.25)
    kept = [of(contexts, None) for _ in range(4_000)]
    share = sum(context.sampled for context in kept if context) / 4_000
    assert 0.22 < share < 0.28
    contexts.keep(0.0)
    nothing = of(contexts, None)
    assert nothing is not None
    assert not nothing.sampled


@pytest.mark.parametrize(
    "state",
    [
        "a=1",
        "a=1,b=2",
        "tenant@system=x",
        "0a_-*/=!~",
        "a= x",
        ",".join(f"k{n}=v" for n in range(32)),
    ],
)
def test_a_state_is_passed_on_as_it_came(state: str) -> None:
    assert state_of(state.encode()) == state


def test_empty_members_of_a_state_and_the_space_around_them_are_left_out() -> None:
    assert state_of(b" a=1 , ,\tb=2,") == "a=1,b=2"


@pytest.mark.parametrize(
    "state",
    [
        "a",
        "=1",
        "A=1",
        "a=1,a=2",
        "a=1=2",
        "a=\x01",
        "a=caf\xe9",
        "a b=1",
        "a=" + "x" * 257,
        "a" * 257 + "=1",
        "a=1\r\nx: y",
        ",".join(f"k{n}=v" for n in range(33)),
    ],
)
def test_a_state_that_is_not_valid_is_left_out(state: str) -> None:
    assert state_of(state.encode("latin-1")) == ""


def test_a_long_state_loses_its_long_members_first_then_its_last() -> None:
    long = "long=" + "x" * 200
    short = [f"k{n:02}=" + "v" * 30 for n in range(16)]
    found = state_of(",".join([long, *short]).encode())
    assert len(found) <= STATE_CHARACTERS_MAX
    assert found.split(",") == short[: len(found.split(","))]
    assert len(found.split(",")) == 14
    kept = ",".join([long, *short[:5]])
    assert state_of(kept.encode()) == kept
