"""The worker's requests: one frame a step, faults that stay alone, memory that is given back."""

import pytest

from forebay.core.errors import Outcome
from forebay.core.request import FinishReason, JsonObject, Sampling, Text
from forebay.engine.answering import Answering
from forebay.engine.protocol import SequenceId
from forebay.engine.wire import Fault, Freed, Step, Submit, Taken, pack_prompt, pack_sampling
from forebay.engines.scripted import ScriptedConfig, ScriptedEngine
from tests.support.requests import a_chat
from tests.support.step_engines import PuppetStepEngine

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


class Bench:
    """An Answering over a puppet, with a clock in the hand."""

    def __init__(self, **facts: int) -> None:
        self.engine = PuppetStepEngine(**facts)
        self.answering = Answering(self.engine, seed=lambda: 1, stats_s=1000.0)
        self.now = 1.0
        self.turn()

    def submit(self, id: int, text: str = "hello", **how: object) -> None:
        stream = bool(how.pop("stream", True))
        time_left_s = float(str(how.pop("time_left_s", 60.0)))
        sampling = pack_sampling(Sampling(**how))  # type: ignore[arg-type]  # real fields
        prompt = pack_prompt(a_chat(text))
        submit = Submit(id, prompt, sampling, stream=stream, time_left_s=time_left_s)
        self.answering.submit(submit, self.now)

    def turn(self) -> tuple[Step | None, list[Fault]]:
        """Turn the loop once."""
        self.answering.expire(self.now)
        return self.answering.answer(self.answering.step(), self.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def stepped(turned: tuple[Step | None, list[Fault]]) -> Step:
    step, faults = turned
    assert step is not None
    assert faults == []
    return step


def test_an_embedding_ends_with_its_vector_and_makes_no_piece() -> None:
    engine = ScriptedEngine(ScriptedConfig())
    answering = Answering(engine, seed=lambda: 1, stats_s=1000.0)
    how = pack_sampling(Sampling(embed=True, tokens_max=0))
    answering.submit(
        Submit(1, pack_prompt(Text(text="a town")), how, stream=False, time_left_s=9.0), 1.0
    )
    step, faults = answering.answer(answering.step(), 1.1)
    assert step is not None
    assert (step.pieces, faults) == ([], [])
    (end,) = step.ends
    assert (end.prompt_tokens, end.completion_tokens) == (2, 0)
    assert len(end.embedding) == 4 * engine.info.embedding_size
    assert answering.tokens_made == 1  # so that a worker with nothing else to do makes progress
    assert not answering.busy


def test_an_embedding_is_aborted_and_freed_like_any_request() -> None:
    engine = ScriptedEngine(ScriptedConfig())
    answering = Answering(engine, seed=lambda: 1, stats_s=1000.0)
    how = pack_sampling(Sampling(embed=True, tokens_max=0))
    prompt = pack_prompt(Text(text="a town !hang"))
    answering.submit(Submit(1, prompt, how, stream=False, time_left_s=9.0), 1.0)
    answering.answer(answering.step(), 1.1)
    assert engine.stats().running == 1
    answering.abort(1)
    step, _ = answering.answer(answering.step(), 1.2)
    assert step is not None
    assert step.freed == [Freed(1, 3, 0)]
    assert engine.stats().running == 0


def test_one_frame_carries_what_a_step_made_of_all_requests(bench: Bench) -> None:
    bench.submit(10)
    bench.submit(20)
    bench.engine.say(1, b"a")
    bench.engine.say(2, b"bc", LENGTH)
    step = stepped(bench.turn())
    assert step.taken == [Taken(10, 5), Taken(20, 5)]
    assert [(piece.id, piece.text, piece.tokens) for piece in step.pieces] == [
        (10, "a", 1),
        (20, "bc", 2),
    ]
    assert [(end.id, end.prompt_tokens, end.completion_tokens) for end in step.ends] == [(20, 5, 2)]
    assert step.tokens_made == 3


def test_several_deltas_of_a_request_stay_several(bench: Bench) -> None:
    bench.submit(10)
    bench.engine.say(1, b"a")
    bench.engine.say(1, b"b")
    assert [piece.text for piece in stepped(bench.turn()).pieces] == ["a", "b"]


def test_with_nothing_made_there_is_nothing_to_say(bench: Bench) -> None:
    bench.submit(10)
    bench.turn()
    assert bench.turn() == (None, [])


def test_with_nothing_to_do_the_engine_is_left_alone(bench: Bench) -> None:
    steps = bench.engine.steps
    assert bench.turn() == (None, [])
    assert bench.engine.steps == steps


def test_a_whole_request_says_nothing_before_all_its_choices_have_ended(bench: Bench) -> None:
    bench.submit(10, stream=False, choices=2)
    bench.engine.say(1, b"ab", LENGTH)
    first = stepped(bench.turn())
    assert (first.pieces, first.ends) == ([], [])
    bench.engine.say(2, b"cd")
    bench.turn()
    bench.engine.say(2, b"e", LENGTH)
    step = stepped(bench.turn())
    assert [(piece.choice, piece.text) for piece in step.pieces] == [(0, "ab"), (1, "cde")]
    assert step.ends[0].completion_tokens == 5


def test_durations_count_from_receipt_to_first_and_last_token(bench: Bench) -> None:
    bench.submit(10)
    for now, text, reason in ((1.5, b"a", None), (2.0, b"b", None), (4.0, b"c", LENGTH)):
        bench.now = now
        bench.engine.say(1, text, reason)
        turned = bench.turn()
    [end] = stepped(turned).ends
    assert (end.first_token_s, end.decode_s) == (0.5, 2.5)


def test_without_a_token_there_are_no_durations(bench: Bench) -> None:
    bench.submit(10)
    bench.engine.say(1, b"", STOP)
    [end] = stepped(bench.turn()).ends
    assert (end.completion_tokens, end.first_token_s, end.decode_s) == (0, None, None)


def test_a_stop_text_aborts_the_sequence_and_its_memory_is_free_a_step_later(bench: Bench) -> None:
    bench.submit(10, stop=("!",))
    bench.engine.say(1, b"a!b")
    step = stepped(bench.turn())
    assert [(piece.text, piece.finish_reason) for piece in step.pieces] == [("a", STOP)]
    assert step.ends[0].completion_tokens == 2
    assert bench.engine.aborted == [1]
    assert bench.answering.busy
    after = stepped(bench.turn())
    assert after.stats is not None
    assert after.stats.running == 0
    assert not bench.answering.busy


def test_a_stop_text_in_one_choice_leaves_the_others_running(bench: Bench) -> None:
    bench.submit(10, stop=("!",), choices=2)
    bench.engine.say(1, b"a!")
    step = stepped(bench.turn())
    assert step.ends == []
    bench.engine.say(2, b"b", LENGTH)
    assert stepped(bench.turn()).ends[0].completion_tokens == 3


def test_an_abort_reaches_every_choice_and_the_gauges_say_so_a_step_later(bench: Bench) -> None:
    bench.submit(10, choices=2)
    bench.turn()
    bench.answering.abort(10)
    bench.answering.abort(10)
    assert bench.engine.aborted == [1, 2]
    step = stepped(bench.turn())
    assert step.stats is not None
    assert step.stats.running == 0
    assert not bench.answering.busy


def test_what_an_aborted_request_still_makes_is_dropped(bench: Bench) -> None:
    bench.submit(10)
    bench.engine.say(1, b"a")
    outputs = bench.answering.step()
    bench.answering.abort(10)
    step, _ = bench.answering.answer(outputs, bench.now)
    assert step is None or step.pieces == []


def test_a_sequence_that_fails_fails_alone(bench: Bench) -> None:
    bench.submit(10, choices=2)
    bench.submit(20)
    bench.engine.fail(1, "The engine ran out of memory.")
    bench.engine.say(2, b"x")
    bench.engine.say(3, b"y", LENGTH)
    step, faults = bench.turn()
    assert faults == [Fault(10, Outcome.ENGINE_ERROR, "The engine ran out of memory.")]
    assert SequenceId(2) in bench.engine.aborted
    assert step is not None
    assert [piece.id for piece in step.pieces] == [20]


def test_what_is_refused_is_invalid_with_its_field(bench: Bench) -> None:
    bench.submit(10, "BAD")
    _, faults = bench.turn()
    assert [(fault.id, fault.outcome, fault.param) for fault in faults] == [
        (10, Outcome.INVALID, "messages")
    ]
    assert not bench.answering.busy


def test_a_request_refused_in_its_second_choice_leaves_nothing_behind(bench: Bench) -> None:
    bench.engine.refuse_after = 1
    bench.submit(10, choices=2)
    assert bench.engine.aborted == [1]
    _, faults = bench.turn()
    assert [fault.param for fault in faults] == ["n"]
    assert bench.engine.held == set()


def test_a_request_whose_time_is_up_is_timed_out_and_aborted(bench: Bench) -> None:
    bench.submit(10, time_left_s=5.0)
    bench.now = 5.9
    assert stepped(bench.turn()).taken == [Taken(10, 5)]
    assert bench.turn() == (None, [])
    bench.now = 6.0
    _, faults = bench.turn()
    assert [(fault.id, fault.outcome) for fault in faults] == [(10, Outcome.TIMED_OUT)]
    assert bench.engine.held == set()


def test_a_request_that_ended_in_time_does_not_expire(bench: Bench) -> None:
    bench.submit(10, time_left_s=5.0)
    bench.engine.say(1, b"a", LENGTH)
    bench.turn()
    bench.now = 100.0
    assert bench.turn() == (None, [])


def test_what_is_kept_of_deadlines_is_bounded_by_what_runs(bench: Bench) -> None:
    for id in range(1, 1001):
        bench.submit(id)
        bench.engine.say(id, b"a", LENGTH)
        bench.turn()
    assert len(bench.answering._expiries) <= 66


def test_that_a_request_came_is_said_with_its_first_text_or_ten_milliseconds_later() -> None:
    quick, slow = Bench(), Bench()
    for bench in (quick, slow):
        bench.submit(10)
        bench.now += 0.009
        assert bench.turn() == (None, [])
    quick.engine.say(1, b"a")
    slow.now += 0.002
    for bench in (quick, slow):
        step = stepped(bench.turn())
        assert step.taken == [Taken(10, 5)]
        assert step.stats is not None
        assert step.stats.running == 1
    assert slow.turn() == (None, [])


def test_gauges_are_read_again_after_a_while_though_nothing_came_or_went() -> None:
    engine = PuppetStepEngine()
    answering = Answering(engine, seed=lambda: 1, stats_s=0.5)
    submit = Submit(1, pack_prompt(Text(text="x")), pack_sampling(Sampling()), True, 60.0)
    answering.submit(submit, 1.0)
    for now, expected in ((1.0, True), (1.4, False), (1.6, True), (1.7, False)):
        engine.say(1, b"a")
        step, _ = answering.answer(answering.step(), now)
        assert step is not None
        assert (step.stats is not None) is expected


def test_steps_are_slow_while_a_long_prompt_is_aboard() -> None:
    bench = Bench(context_tokens_max=5_000)
    bench.submit(10, "x" * 1_025)
    assert bench.answering.slow
    bench.engine.say(1, b"a")
    assert stepped(bench.turn()).slow
    bench.engine.say(1, b"b", LENGTH)
    assert not stepped(bench.turn()).slow
    bench.submit(20, "x" * 1_025)
    bench.answering.abort(20)
    bench.submit(30, "x" * 1_024)
    assert not bench.answering.slow


def test_steps_are_slow_until_a_grammar_has_made_its_first_token(bench: Bench) -> None:
    bench.submit(10, grammar=JsonObject())
    assert bench.answering.slow
    bench.engine.say(1, b"{")
    assert not stepped(bench.turn()).slow


def test_what_is_aborted_is_acknowledged_after_the_step_that_frees_it(bench: Bench) -> None:
    bench.submit(10, "hello", stream=False)
    bench.engine.say(1, b"abc")
    bench.turn()
    bench.answering.abort(10)
    bench.answering.abort(99)
    assert stepped(bench.turn()).freed == [Freed(10, 5, 3), Freed(99, 0, 0)]
    assert bench.engine.held == set()
    assert bench.turn() == (None, [])


def test_what_fails_by_itself_is_not_acknowledged_as_freed(bench: Bench) -> None:
    bench.submit(10)
    bench.engine.fail(1, "no")
    step, faults = bench.turn()
    assert len(faults) == 1
    assert step is None or step.freed == []
