from typing import Any

import pytest

from forebay.core.request import Chat, Message, Role, Text, TokenIds
from forebay.core.tooling import Tool, ToolCall, Tooling, ToolTurn
from forebay.policy.forecast import Crowd, Departure, Expectation, Forecast, Work
from forebay.policy.step_costs import StepCosts

WORK = Work(prompt_tokens=100, tokens_max=50)
FULL = Crowd(places=4, taken=4, ahead=0)


def a_departure(**facts: Any) -> Departure:
    said: dict[str, Any] = {
        "held_s": 2.0,
        "taken": 4,
        "prompt_bytes": 400,
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "tokens_max": 50,
        "first_token_s": 0.2,
        "decode_s": 1.47,
    }
    return Departure(**{**said, **facts})


def a_forecast(count: int = 50, **facts: Any) -> Forecast:
    forecast = Forecast()
    for _ in range(count):
        forecast.learn(a_departure(**facts))
    return forecast


def a_forecast_that_reads(tokens_per_s: float) -> Forecast:
    forecast = a_forecast()
    for turn in range(100):
        backlog = 100.0 * (1 + turn % 5)
        forecast.learn(a_departure(backlog=backlog, first_token_s=0.2 + backlog / tokens_per_s))
    return forecast


def expected(forecast: Forecast, work: Work = WORK, crowd: Crowd = FULL) -> Expectation:
    said = forecast.expect(work, crowd)
    assert said is not None
    return said


def test_a_forecast_that_knows_nothing_says_nothing() -> None:
    assert Forecast().expect(WORK, FULL) is None
    assert Forecast().gap_s(4) is None


def test_with_a_free_place_only_the_first_token_is_awaited() -> None:
    said = expected(a_forecast(), crowd=Crowd(places=4, taken=3, ahead=0))
    assert (said.wait_s, said.departures) == (0.0, 0.0)
    assert said.ttft_s == pytest.approx(0.2)
    assert said.finish_s == pytest.approx(0.2 + 49 * 0.03)


def test_a_wait_grows_with_the_places_before_it() -> None:
    forecast = a_forecast()
    assert expected(forecast).wait_s == pytest.approx(0.5)
    assert expected(forecast, crowd=Crowd(places=4, taken=4, ahead=9)).wait_s == pytest.approx(5.0)
    two = Work(prompt_tokens=100, tokens_max=50, choices=2)
    assert expected(forecast, two).wait_s == pytest.approx(1.0)


def test_a_request_larger_than_the_lane_waits_for_all_its_places() -> None:
    huge = Work(prompt_tokens=100, tokens_max=50, choices=9)
    assert expected(a_forecast(), huge).wait_s == pytest.approx(2.0)


def test_promised_work_makes_the_wait_longer() -> None:
    # Two places a second come free, and one of them is promised.
    crowd = Crowd(places=4, taken=4, ahead=0, promised=1.0)
    assert expected(a_forecast(), crowd=crowd).wait_s == pytest.approx(1.0)


def test_a_model_that_gets_three_times_slower_is_learned_in_twenty_departures() -> None:
    forecast = a_forecast()
    for _ in range(20):
        forecast.learn(a_departure(held_s=6.0, first_token_s=0.6, decode_s=4.41))
    said = expected(forecast)
    assert said.wait_s == pytest.approx(1.5, rel=0.15)
    assert said.ttft_s == pytest.approx(2.1, rel=0.15)
    assert said.finish_s == pytest.approx(2.1 + 4.41, rel=0.15)


def test_one_request_a_hundred_times_slower_moves_expectations_by_less_than_a_tenth() -> None:
    forecast = a_forecast()
    before = expected(forecast)
    forecast.learn(
        a_departure(held_s=200.0, first_token_s=20.0, decode_s=147.0, completion_tokens=5000)
    )
    after = expected(forecast)
    assert after.wait_s < before.wait_s * 1.1
    assert after.ttft_s < before.ttft_s * 1.1
    assert after.finish_s < before.finish_s * 1.1


def test_the_usual_length_counts_and_not_the_longest_asked_for() -> None:
    forecast = a_forecast(tokens_max=4096)
    assert forecast.completion_tokens(4096) == pytest.approx(50)
    assert forecast.completion_tokens(10) == 10
    assert forecast.completion_tokens(None) == pytest.approx(50)


def test_requests_for_few_tokens_are_told_from_requests_for_many() -> None:
    forecast = Forecast()
    for _ in range(50):
        forecast.learn(a_departure(tokens_max=16, completion_tokens=16))
        forecast.learn(a_departure(tokens_max=2000, completion_tokens=900))
    assert forecast.completion_tokens(16) == pytest.approx(16)
    assert forecast.completion_tokens(1500) == pytest.approx(900)


def test_prompt_tokens_are_guessed_from_bytes_by_what_was_seen() -> None:
    forecast = Forecast()
    assert forecast.prompt_tokens(Text(text="x" * 400)) == pytest.approx(100)
    for length in (100, 300, 900) * 100:
        forecast.learn(a_departure(prompt_bytes=length, prompt_tokens=10 + length // 3))
    assert forecast.prompt_tokens(Text(text="x" * 600)) == pytest.approx(210, rel=0.1)
    turns = (Message(role=Role.USER, content="é" * 300),)
    assert forecast.prompt_tokens(Chat(messages=turns)) == pytest.approx(210, rel=0.1)
    tools = (Tool(name="f", description="x" * 200, parameters="x" * 100),)
    calls = (ToolCall(id="a", name="f", arguments="x" * 99),)
    tooling = Tooling(tools=tools, turns=(ToolTurn(index=0, calls=calls),))
    short = (Message(role=Role.USER, content="x" * 200),)
    told = Chat(messages=short, tooling=tooling)
    assert forecast.prompt_tokens(told) == pytest.approx(210, rel=0.1)


def test_prompt_tokens_that_the_client_sent_are_counted() -> None:
    assert Forecast().prompt_tokens(TokenIds(ids=(1, 2, 3))) == 3


def test_a_fuller_lane_is_expected_to_be_slower_before_it_has_been_full() -> None:
    forecast = Forecast()
    for taken in (1, 2, 3, 4) * 100:
        forecast.learn(
            a_departure(taken=taken, held_s=1.0 + 0.5 * taken, decode_s=0.98 + 0.49 * taken)
        )
    assert forecast.gap_s(8) == pytest.approx(5.0 / 8, rel=0.1)


def test_promises_are_spaced_wider_while_the_lane_was_not_seen_full() -> None:
    forecast = a_forecast(taken=2)
    gap_s = forecast.gap_s(3)
    assert gap_s is not None
    assert forecast.safe_gap_s(3) == pytest.approx(1.5 * gap_s)
    assert forecast.safe_gap_s(2) == forecast.gap_s(2)
    assert forecast.safe_gap_s(100) == pytest.approx(2.0 * (forecast.gap_s(100) or 0.0))


def test_those_who_left_early_teach_only_how_long_they_held_their_place() -> None:
    forecast = a_forecast()
    for _ in range(50):
        forecast.learn(Departure(held_s=1.0, taken=4))
    said = expected(forecast)
    assert said.wait_s == pytest.approx(0.25, rel=0.1)
    assert said.ttft_s == pytest.approx(0.25 + 0.2, rel=0.1)
    assert said.finish_s - said.ttft_s == pytest.approx(49 * 0.03)


def test_each_of_many_let_in_at_once_waits_for_the_prompts_of_those_before() -> None:
    forecast = a_forecast_that_reads(tokens_per_s=500.0)
    room = Crowd(places=64, taken=3, ahead=0)
    assert expected(forecast, crowd=room).ttft_s == pytest.approx(0.2, rel=0.1)
    assert [forecast.begin(100.0) for _ in range(3)] == [0.0, 100.0, 200.0]
    behind = Crowd(places=64, taken=3, ahead=0, backlog=forecast.backlog)
    said = expected(forecast, crowd=behind)
    assert said.wait_s == 0.0
    assert said.backlog_s == pytest.approx(0.6, rel=0.1)
    assert said.ttft_s == pytest.approx(0.8, rel=0.1)
    assert forecast.backlog_s == pytest.approx(0.6, rel=0.1)


def test_a_prompt_that_has_been_read_keeps_nobody_waiting() -> None:
    forecast = a_forecast_that_reads(tokens_per_s=500.0)
    forecast.begin(100.0)
    forecast.begin(50.0)
    forecast.begun(100.0)
    assert forecast.backlog == 50.0
    forecast.begun(50.0)
    assert forecast.backlog_s == 0.0


def test_a_slow_start_alone_does_not_make_prompts_slow_to_read() -> None:
    forecast = a_forecast(count=2, backlog=50.0, first_token_s=1.0)
    for place in range(8):
        forecast.learn(a_departure(backlog=50.0 * (place + 1), first_token_s=1.2))
    behind = Crowd(places=64, taken=8, ahead=0, backlog=400.0)
    assert expected(forecast, crowd=behind).ttft_s < 1.6


def test_the_place_of_one_who_has_just_begun_does_not_come_free_at_once() -> None:
    forecast = a_forecast()
    just = Crowd(places=4, taken=4, ahead=0, held_s=0.1)
    long_ago = Crowd(places=4, taken=4, ahead=0, held_s=1.9)
    assert expected(forecast, crowd=just).wait_s == pytest.approx(1.9)
    assert expected(forecast, crowd=long_ago).wait_s == pytest.approx(0.5)


COSTS = StepCosts(step_s=0.01, sequence_s=0.001, read_s=0.0005)


def test_what_a_step_costs_is_enough_to_expect_by() -> None:
    forecast = Forecast()
    forecast.assume(COSTS, 32)
    work = Work(prompt_tokens=64, tokens_max=64)
    alone = expected(forecast, work, Crowd(places=32, taken=0, ahead=0))
    assert alone.ttft_s == pytest.approx(0.01 + 64 * 0.0005, rel=0.05)
    assert alone.finish_s == pytest.approx(alone.ttft_s + 63 * 0.0115, rel=0.05)
    behind = expected(forecast, work, Crowd(places=32, taken=8, ahead=0, backlog=1_024))
    assert 0.7 * 0.512 <= behind.backlog_s <= 0.512
    full = expected(forecast, work, Crowd(places=32, taken=32, ahead=7))
    assert full.wait_s == pytest.approx(8 * 64 * (0.01 + 32 * 0.0015) / 32, rel=0.1)


def test_what_is_seen_soon_counts_for_more_than_what_was_assumed() -> None:
    forecast = Forecast()
    forecast.assume(COSTS, 4)
    for _ in range(30):
        forecast.learn(a_departure())
    assert expected(forecast).wait_s == pytest.approx(0.5, rel=0.2)


def test_several_batches_share_sequences_and_prompts_but_not_their_steps() -> None:
    shared = COSTS.across(4)
    assert shared == StepCosts(step_s=0.01, sequence_s=0.00025, read_s=0.000125)
