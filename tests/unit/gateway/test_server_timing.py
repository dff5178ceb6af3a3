"""`Server-Timing`: the short way, which nearly all answers take, says what the long one says."""

from dataclasses import replace

import pytest

from forebay.core.record import Timeline
from forebay.core.request import EngineTiming, Source
from forebay.core.visit import Visit
from forebay.gateway.server_timing import _any, _usual

NOW = 20.0


def visited() -> Visit:
    visit = Visit(id="r", method="POST", path="/", received=10.0, wait_s=0.25)
    visit.let_in, visit.understood, visit.making, visit.screened = 10.5, 11.0, 11.5, 12.0
    return visit


def answered() -> Timeline:
    return Timeline(
        received=10.0,
        admitted=13.0,
        scheduled=14.0,
        first_token=15.0,
        last_token=16.0,
        engine=EngineTiming(first_token_s=0.5),
    )


@pytest.mark.parametrize("wait_s", [0.0, 0.25])
@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("last_token", [13.2, 15.0, 16.0])
def test_the_short_way_says_what_the_long_one_says(
    *, wait_s: float, looked: bool, stream: bool, last_token: float
) -> None:
    visit = replace(visited(), wait_s=wait_s, looked=looked)
    timeline = replace(answered(), last_token=last_token)
    first_token = timeline.first_token_at(stream=stream)
    told = _usual(visit, timeline, first_token, now=NOW)
    assert told is not None
    assert told == _any(visit, timeline, first_token, now=NOW)


def test_the_parts_stand_in_order_and_the_total_ends_them() -> None:
    timeline = answered()
    told = _usual(visited(), timeline, timeline.first_token_at(stream=False), now=NOW)
    assert told == (
        b"wait;dur=250.000, access;dur=500.000, parse;dur=500.000, guard;dur=1000.000,"
        b" queue;dur=1000.000, prefill;dur=500.000, decode;dur=2500.000, total;dur=10250.000"
    )


@pytest.mark.parametrize(
    ("visit", "timeline"),
    [
        (replace(visited(), asleep=10.6, awake=10.8), answered()),
        (replace(visited(), asleep=12.1, awake=12.8), answered()),
        (replace(visited(), of="batch"), answered()),
        (replace(visited(), screened=None), answered()),
        (visited(), replace(answered(), source=Source.CACHED)),
        (visited(), replace(answered(), last_token=None, first_token=None, engine=None)),
    ],
)
def test_whatever_is_not_usual_goes_the_long_way(visit: Visit, timeline: Timeline) -> None:
    first_token = timeline.first_token_at(stream=False)
    assert _usual(visit, timeline, first_token, now=NOW) is None
