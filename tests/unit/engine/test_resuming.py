"""An answer that is cut off anywhere and gone on with elsewhere is the uninterrupted one."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from forebay.core.errors import Outcome
from forebay.core.request import Delta, FinishReason, JsonObject, Made, Sampling
from forebay.engine.answering import Answering
from forebay.engine.protocol import EngineInfo, Feature
from forebay.engine.resuming import Passed, can_resume
from forebay.engine.wire import End, Piece, Step, Submit, pack_prompt, pack_sampling
from forebay.engines.scripted import ScriptedConfig, ScriptedEngine
from tests.support.requests import a_chat, a_request

HARD = "x x x x z naïve 日本語の長い言葉 👩🏽‍🚀👩🏽‍🚀 aXbXc end stoppers stop"


class Worker:
    """An answering over the scripted engine, turned by hand."""

    def __init__(self) -> None:
        self.answering = Answering(ScriptedEngine(ScriptedConfig()), lambda: 1, stats_s=1e9)
        self.now = 0.0
        self.turn()

    def submit(
        self,
        text: str,
        sampling: Sampling,
        made: tuple[Made, ...] = (),
        *,
        stream: bool = True,
    ) -> None:
        prompt, packed = pack_prompt(a_chat(text)), pack_sampling(sampling)
        submit = Submit(1, prompt, packed, stream=stream, time_left_s=1e6, made=made)
        self.answering.submit(submit, 0.0)

    def turn(self) -> Step | None:
        self.now += 1.0
        step, faults = self.answering.answer(self.answering.step(), self.now)
        assert not faults
        return step

    def steps(self) -> Iterator[Step]:
        """Yield steps until the request has ended."""
        for _ in range(1_000):
            if step := self.turn():
                yield step
                if step.ends:
                    return
        raise AssertionError("it does not end")


@dataclasses.dataclass
class Heard:
    """What a client has of each choice."""

    pieces: list[Piece]
    end: End

    def of(self, choice: int) -> tuple[str, int, list[FinishReason], list[Any]]:
        pieces = [piece for piece in self.pieces if piece.choice == choice]
        text = "".join(piece.text for piece in pieces)
        reasons = [piece.finish_reason for piece in pieces if piece.finish_reason]
        entries = [entry for piece in pieces for entry in piece.logprobs]
        return text, sum(piece.tokens for piece in pieces), reasons, entries


def a_delta(piece: Piece) -> Delta:
    return Delta(
        piece.text,
        piece.tokens,
        piece.choice,
        piece.finish_reason,
        token_ids=piece.token_ids,
    )


def uninterrupted(text: str, sampling: Sampling) -> list[Step]:
    worker = Worker()
    worker.submit(text, sampling)
    return list(worker.steps())


def cut_after(text: str, sampling: Sampling, *turns: int) -> Heard | None:
    """Lose a worker after each of these numbers of turns; None if the answer ended before."""
    passed, pieces = Passed(sampling), []
    for number in turns:
        worker = Worker()
        worker.submit(text, sampling, passed.made())
        for _ in range(number):
            step = worker.turn()
            for piece in step.pieces if step else ():
                passed.note(a_delta(piece))
                pieces.append(piece)
            if step and step.ends:
                return None
    worker = Worker()
    worker.submit(text, sampling, passed.made())
    for step in worker.steps():
        pieces += step.pieces
        ends = step.ends
    [end] = ends
    return Heard(pieces, end)


CASES = {
    "plain": {},
    "a limit": {"tokens_max": 9},
    "a limit in a character": {"tokens_max": 4},
    "a stop text": {"stop": ("stop",)},
    "a stop text over tokens": {"stop": ("の長い言葉 👩", "never")},
    "stop texts that do not come": {"stop": ("stoppers!", "end stoppersX", "aXbXd")},
    "tokens wholly held back": {"stop": ("x x y",)},
    "tokens wholly held back, and logprobs": {"stop": ("x x y",), "logprobs": True},
    "min_tokens hides a stop text": {"stop": ("a", "stop"), "tokens_min": 12},
    "min_tokens": {"tokens_min": 40},
    "for ever": {"ignore_eos": True, "tokens_max": 50},
    "three choices": {"choices": 3, "stop": ("stop",)},
    "logprobs": {"logprobs": True, "choices": 2},
    "logprobs and a stop text": {"logprobs": True, "stop": ("end stop", "語X")},
}


@pytest.mark.parametrize("how", CASES.values(), ids=CASES)
def test_cut_at_every_turn_and_twice_it_is_the_same_answer(how: dict[str, Any]) -> None:
    sampling = Sampling(**how)
    steps = uninterrupted(HARD, sampling)
    [end] = steps[-1].ends
    whole = Heard([piece for step in steps for piece in step.pieces], end)
    cuts = 0
    for first in range(len(steps) + 2):
        for second in (0, 1, 3):
            heard = cut_after(HARD, sampling, first, second)
            if heard is None:
                continue
            cuts += 1
            for choice in range(sampling.choices):
                assert heard.of(choice) == whole.of(choice), f"cut after {first} and {second}"
            assert heard.end.prompt_tokens == whole.end.prompt_tokens
            assert heard.end.completion_tokens == whole.end.completion_tokens
            assert heard.end.completion_tokens == sum(piece.tokens for piece in heard.pieces)
    assert cuts > len(steps)


@pytest.mark.parametrize("how", CASES.values(), ids=CASES)
def test_a_whole_answer_goes_on_from_what_was_told_of_it(how: dict[str, Any]) -> None:
    sampling = Sampling(**how)
    steps = uninterrupted(HARD, sampling)
    whole = Heard([piece for step in steps for piece in step.pieces], steps[-1].ends[0])
    for cut in range(len(steps)):
        passed, worker = Passed(sampling), Worker()
        worker.submit(HARD, sampling, stream=False)
        for _ in range(cut):
            step = worker.turn()
            for kept in step.kept if step else ():
                passed.keep(kept.choice, kept.token_ids)
            assert not (step and step.pieces and step.ends), "cut before its end"
        assert passed.made() or cut < 2 or sampling.logprobs
        second = Worker()
        second.submit(HARD, sampling, passed.made())
        rest = list(second.steps())
        heard = Heard([piece for step in rest for piece in step.pieces], rest[-1].ends[0])
        for choice in range(sampling.choices):
            assert heard.of(choice) == whole.of(choice), f"cut after {cut}"
        assert heard.end.completion_tokens == whole.end.completion_tokens


def test_choices_that_ended_before_the_loss_are_not_made_again() -> None:
    sampling = Sampling(choices=2)
    done = Made(token_ids=(), characters=3, tokens=4, finished=True)
    worker = Worker()
    worker.submit("one two", sampling, (done, Made()))
    pieces = [piece for step in worker.steps() for piece in step.pieces]
    assert {piece.choice for piece in pieces} == {1}


def test_a_request_whose_choices_all_ended_ends_at_once() -> None:
    done = Made(characters=3, tokens=4, finished=True)
    worker = Worker()
    worker.submit("one two", Sampling(choices=2), (done, done))
    step = worker.turn()
    assert step is not None
    assert [(end.completion_tokens, list(step.pieces)) for end in step.ends] == [(8, [])]


def test_a_choice_that_has_all_its_tokens_ends_at_its_limit() -> None:
    worker = Worker()
    first = Worker()
    first.submit("one two", Sampling(tokens_max=1, ignore_eos=True))
    [said] = [piece for step in first.steps() for piece in step.pieces]
    made = Made(token_ids=said.token_ids, characters=4, tokens=1)
    worker.submit("one two", Sampling(tokens_max=1, ignore_eos=True), (made,))
    step = worker.turn()
    assert step is not None
    assert [piece.finish_reason for piece in step.pieces] == [FinishReason.LENGTH]
    assert [end.completion_tokens for end in step.ends] == [1]


def test_only_text_beyond_what_was_handed_out_is_sent() -> None:
    first, second = Worker(), Worker()
    first.submit("one two", Sampling(tokens_max=1))
    [said] = [piece for step in first.steps() for piece in step.pieces]
    second.submit("one two", Sampling(), (Made(token_ids=said.token_ids, characters=2),))
    pieces = [piece for step in second.steps() for piece in step.pieces]
    assert "".join(piece.text for piece in pieces) == "e two "
    assert sum(piece.tokens for piece in pieces) == 2


def test_what_does_not_fit_what_was_handed_out_fails_alone() -> None:
    worker = Worker()
    worker.submit("one two", Sampling(), (Made(token_ids=(300,), characters=90, tokens=1),))
    step, [fault] = worker.answering.answer(worker.answering.step(), 0.0)
    assert fault.outcome is Outcome.ENGINE_ERROR
    assert "continued" in fault.message
    assert step is None or not step.ends
    assert not worker.answering.busy


def test_tokens_held_back_are_passed_on_but_not_counted_twice() -> None:
    passed = Passed(Sampling(choices=2))
    assert passed.made() == ()
    passed.note(Delta("ab", tokens=1, choice=1, token_ids=(7, 8)))
    assert passed.made() == (Made(), Made(token_ids=(7, 8), characters=2, tokens=1))
    assert passed.tokens == 1


def an_info(*resumable: Feature) -> EngineInfo:
    return EngineInfo(
        name="e",
        context_tokens_max=9,
        running_max=1,
        supports=frozenset(Feature),
        resumable=frozenset(resumable),
    )


def test_only_what_an_engine_names_is_gone_on_with() -> None:
    plain, stopped = a_request(), a_request(stop=("a",))
    assert not can_resume(plain, an_info())
    assert can_resume(plain, an_info(Feature.STOP))
    assert can_resume(stopped, an_info(Feature.STOP))
    assert not can_resume(stopped, an_info(Feature.CHAT))
    grammar = dataclasses.replace(plain, sampling=Sampling(grammar=JsonObject()))
    assert not can_resume(grammar, an_info(*frozenset(Feature) - {Feature.JSON_SCHEMA}))
