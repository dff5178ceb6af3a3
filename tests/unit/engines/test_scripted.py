"""The scripted engine: exact text, exact pace, and directions obeyed where they stand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.clock import ManualClock
from forebay.core.request import FinishReason, JsonObject, Message, Role, Sampling
from forebay.engine.protocol import Refused, SequenceId, StepOutput
from forebay.engines.scripted import (
    Direction,
    ScriptedConfig,
    ScriptedEngine,
    ScriptedTokenizer,
    script_of,
)

ONE, TWO = SequenceId(1), SequenceId(2)


def user(text: str) -> Message:
    return Message(role=Role.USER, content=text)


def an_engine(clock: ManualClock | None = None, **config: float) -> ScriptedEngine:
    clock = clock or ManualClock()
    return ScriptedEngine(ScriptedConfig(**config), clock, clock.advance)  # type: ignore[arg-type]  # real fields


def submit(engine: ScriptedEngine, id: SequenceId, text: str, **how: object) -> None:
    known = {"tokens_max": 100, "seed": 1}
    sampling = Sampling(**(known | how))  # type: ignore[arg-type]  # real fields
    engine.submit(id, engine.tokenizer.encode(text), sampling)


def outputs_of(engine: ScriptedEngine, id: SequenceId, steps_max: int = 200) -> list[StepOutput]:
    found: list[StepOutput] = []
    for _ in range(steps_max):
        found += [output for output in engine.step() if output.id == id]
        if found and (found[-1].finish_reason or found[-1].failure):
            break
    return found


def text_of(engine: ScriptedEngine, outputs: list[StepOutput]) -> str:
    detokenizer = engine.tokenizer.detokenizer()
    said = "".join(detokenizer.push(output.token_ids) for output in outputs)
    return said + detokenizer.flush()


@given(st.text())
def test_any_text_comes_back_exactly(text: str) -> None:
    tokenizer = ScriptedTokenizer()
    detokenizer = tokenizer.detokenizer()
    parts = [detokenizer.push([token_id]) for token_id in tokenizer.encode(text)]
    assert "".join(parts) + detokenizer.flush() == text.encode("utf-8", "replace").decode()


@given(st.integers(0, 2**57 - 1))
def test_every_id_of_the_vocabulary_stands_for_at_most_7_bytes(token_id: int) -> None:
    assert len(ScriptedTokenizer().token_bytes(token_id)) <= 7


def test_a_word_with_the_space_after_it_is_a_token_and_a_long_word_is_several() -> None:
    tokenizer = ScriptedTokenizer()
    pieces = [tokenizer.token_bytes(token_id) for token_id in tokenizer.encode("one elephants x")]
    assert pieces == [b"one ", b"elephan", b"ts ", b"x"]


def test_the_script_is_the_last_users_turn() -> None:
    tokenizer = ScriptedTokenizer()
    turns = [
        Message(role=Role.SYSTEM, content="be brief"),
        user("first words"),
        Message(role=Role.ASSISTANT, content="no"),
        user("last words"),
        Message(role=Role.ASSISTANT, content="so"),
    ]
    script = script_of(tokenizer.chat(turns), directions=True)
    assert script == tokenizer.encode("last words ")


def test_no_text_can_pretend_to_be_another_turn() -> None:
    tokenizer = ScriptedTokenizer()
    assert min(tokenizer.encode("\x00\x01\x02\x03 any")) >= 256


def test_it_says_the_script_once_and_stops() -> None:
    engine = an_engine()
    submit(engine, ONE, "one two")
    outputs = outputs_of(engine, ONE)
    assert text_of(engine, outputs) == "one two "
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_with_ignore_eos_its_words_go_round() -> None:
    engine = an_engine()
    submit(engine, ONE, "one two", ignore_eos=True, tokens_max=5)
    outputs = outputs_of(engine, ONE)
    assert text_of(engine, outputs) == "one two one two one "
    assert outputs[-1].finish_reason is FinishReason.LENGTH


def test_min_tokens_makes_it_go_on() -> None:
    engine = an_engine()
    submit(engine, ONE, "one two", tokens_min=3)
    assert text_of(engine, outputs_of(engine, ONE)) == "one two one "


def test_it_fails_where_it_is_told_to() -> None:
    engine = an_engine()
    submit(engine, ONE, "one !fail two")
    submit(engine, TWO, "one two")
    outputs = outputs_of(engine, ONE)
    assert text_of(engine, outputs) == "one "
    assert outputs[-1].failure
    assert engine.stats().running == 1


def test_it_hangs_where_it_is_told_to_and_others_go_on() -> None:
    engine = an_engine()
    submit(engine, ONE, "one !hang two")
    submit(engine, TWO, "one two three")
    outputs = outputs_of(engine, TWO)
    assert text_of(engine, outputs) == "one two three "
    assert outputs_of(engine, ONE, steps_max=50) == []
    engine.abort(ONE)
    engine.step()
    assert engine.stats().running == 0


def test_a_slow_step_takes_its_time_and_then_goes_on() -> None:
    clock = ManualClock(10.0)
    engine = an_engine(clock)
    submit(engine, ONE, "one !slow two")
    assert text_of(engine, outputs_of(engine, ONE)) == "one two "
    assert 10.1 < clock() < 10.0 + engine.info.step_s_max


def test_garbage_is_a_finish_reason_that_there_is_not() -> None:
    engine = an_engine()
    submit(engine, ONE, "!garbage")
    [output] = outputs_of(engine, ONE)
    assert output.finish_reason not in set(FinishReason)


def test_a_closed_engine_holds_nothing() -> None:
    engine = an_engine(running_max=1)
    submit(engine, ONE, "one")
    submit(engine, TWO, "two")
    engine.step()
    engine.close()
    assert engine.step() == []
    assert (engine.stats().running, engine.stats().waiting) == (0, 0)


def test_a_grammar_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        submit(an_engine(), ONE, "one", grammar=JsonObject())
    assert refusal.value.param == "response_format"


def test_directions_are_words_where_they_are_not_obeyed() -> None:
    engine = ScriptedEngine(ScriptedConfig(directions=False))
    submit(engine, ONE, "one !fail two")
    assert text_of(engine, outputs_of(engine, ONE)) == "one !fail two "


def test_directions_are_found_among_words_and_spaces() -> None:
    tokenizer = ScriptedTokenizer()
    script = script_of(tokenizer.encode("a  !hang\n!garbage b!die"), directions=True)
    assert [line for line in script if isinstance(line, Direction)] == [
        Direction.HANG,
        Direction.GARBAGE,
    ]


def moments(engine: ScriptedEngine, clock: ManualClock, count: int) -> list[float]:
    found: list[float] = []
    while len(found) < count:
        if engine.step():
            found.append(round(clock(), 6))
    return found


def test_a_token_is_due_each_decode_s_after_the_prefill() -> None:
    clock = ManualClock(10.0)
    engine = an_engine(clock, prefill_s=0.5, prefill_s_per_token=0.1, decode_s=0.01)
    submit(engine, ONE, "one two", ignore_eos=True)
    assert moments(engine, clock, 4) == [10.7, 10.71, 10.72, 10.73]


def test_a_late_step_does_not_delay_those_after_it() -> None:
    clock = ManualClock(10.0)
    engine = an_engine(clock, decode_s=0.01)
    submit(engine, ONE, "one two", ignore_eos=True)
    assert moments(engine, clock, 2) == [10.0, 10.01]
    clock.advance(0.015)
    assert moments(engine, clock, 3) == [10.025, 10.03, 10.04]


def test_the_whole_batch_steps_at_once() -> None:
    clock = ManualClock(10.0)
    engine = an_engine(clock, decode_s=0.01)
    submit(engine, ONE, "one two", ignore_eos=True)
    submit(engine, TWO, "one two", ignore_eos=True)
    sizes = [len(outputs) for _ in range(40) if (outputs := engine.step())]
    assert set(sizes) == {2}


def test_a_step_sleeps_only_a_little_so_that_news_are_soon_seen() -> None:
    clock = ManualClock(10.0)
    engine = an_engine(clock, prefill_s=5.0)
    submit(engine, ONE, "one two")
    assert engine.step() == []
    assert clock() - 10.0 == pytest.approx(0.002)


def test_what_does_not_fit_into_the_batch_waits_its_turn() -> None:
    engine = an_engine(running_max=1)
    submit(engine, ONE, "one")
    submit(engine, TWO, "two")
    engine.step()
    assert (engine.stats().running, engine.stats().waiting) == (1, 1)
    assert text_of(engine, outputs_of(engine, TWO)) == "two "


def test_it_claims_no_grammars_and_no_randomness() -> None:
    info = an_engine().info
    assert info.deterministic
    assert {feature.value for feature in info.supports}.isdisjoint({"json_object", "json_schema"})
