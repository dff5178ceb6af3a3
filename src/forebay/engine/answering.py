"""A worker's requests under way: what the engine makes of them becomes one frame per step.

No clock, no socket: the moment is an argument, and messages are returned.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from forebay.core.errors import Outcome
from forebay.core.request import FinishReason, Made
from forebay.engine.choice import CannotResume, CarefulChoice, Choice, ChoiceId, open_choice
from forebay.engine.intake import Intake, Taking, left_of
from forebay.engine.protocol import Refused, SequenceId, StepEngine, StepOutput
from forebay.engine.stop_strings import StopTable
from forebay.engine.wire import End, Fault, Freed, Kept, Piece, Step, Submit, Taken

_CANNOT_RESUME: Final = "The answer that a lost engine began could not be continued."


_KEPT_S: Final = 0.05
"""How often it is told how far whole answers are: so much of their making is lost with a worker."""

_ARRIVAL_S: Final = 0.01
"""How long it may go unsaid that a request came: a frame for that alone wakes the gateway, and
most short answers are there before."""

_SHORT_TOKENS: Final = 1_024
"""Attention makes steps the longer, the longer sequences are; up to here it hardly matters."""


@dataclass(slots=True, kw_only=True)
class _Answer:
    """One request under way."""

    id: int
    received: float
    expires: float
    stream: bool
    prompt_tokens: int
    sequences: list[SequenceId]
    pieces: list[Piece] = field(default_factory=list)
    """Of a request that is answered whole: the choices that have ended."""
    completion_tokens: int = 0
    tokens_made: int = 0
    """By this engine, those not yet handed out included."""
    embedding: bytes = b""
    long: bool = False
    """Its steps are slow ones, from the first to the last."""
    first_token: float | None = None
    last_token: float = 0.0


@dataclass(slots=True)
class _Sequence:
    answer: _Answer
    choice: Choice


class Answering:
    """Takes requests in, feeds the engine, and gathers what is to be said."""

    def __init__(self, engine: StepEngine, seed: Callable[[], int], *, stats_s: float) -> None:
        """Drive `engine`.

        `seed` makes one for each request that brings none; gauges are read again when requests
        have come or gone, and every `stats_s` while they run.
        """
        self._engine = engine
        self._intake: Final = Intake(engine.info, engine.tokenizer)
        self._seed = seed
        self._stats_s = stats_s
        # The whole mutable state.
        self._answers: dict[int, _Answer] = {}
        self._sequences: dict[SequenceId, _Sequence] = {}
        self._expiries: list[tuple[float, int]] = []
        self._next_sequence = 0
        self._tokens_made = 0
        self._changed = True
        """Whether requests went, or came a while ago, since the gauges were last read."""
        self._stats_read = 0.0
        self._arrival: float | None = None
        """When the first request came of whose coming nothing was said."""
        self._abort_owed = False
        """An abort waits for the engine's next step, which gives the memory back."""
        self._taken: list[Taken] = []
        self._pieces: list[Piece] = []
        self._ends: list[End] = []
        self._faults: list[Fault] = []
        self._freed: list[Freed] = []
        """What was aborted before the engine's next step, which gives the memory back."""
        self._kept_told = 0.0
        self._slow: set[int] = set()
        """Requests for whose sake a step may take long."""

    @property
    def busy(self) -> bool:
        """Whether the engine has something to do: sequences, or an abort to carry out."""
        return bool(self._sequences) or self._abort_owed

    @property
    def slow(self) -> bool:
        """Whether the next step may take as long as the engine's longest."""
        return bool(self._slow)

    @property
    def tokens_made(self) -> int:
        """Tokens since the start."""
        return self._tokens_made

    def step(self) -> Sequence[StepOutput]:
        """Let the engine make one step, if it has something to do."""
        if self._abort_owed:
            self._changed = True
            self._abort_owed = False
        elif not self._sequences:
            return ()
        return self._engine.step()

    def submit(self, submit: Submit, now: float) -> None:
        """Take a request in; what it cannot be given becomes a fault of this request alone."""
        try:
            taking = self._intake.take(submit, self._seed())
            answer = _Answer(
                id=submit.id,
                received=now,
                expires=now + submit.time_left_s,
                stream=submit.stream or bool(submit.made),
                prompt_tokens=len(taking.prompt_token_ids),
                sequences=[],
                completion_tokens=sum([made.tokens for made in submit.made]),
                long=len(taking.prompt_token_ids) > _SHORT_TOKENS,
            )
            if answer.long or submit.sampling.grammar is not None:
                self._slow.add(submit.id)
            self._answers[submit.id] = answer
            if submit.made:
                self._resume(answer, taking, submit.made)
            else:
                self._begin(answer, taking)
        except Refused as error:
            self.fail(submit.id, Fault(submit.id, Outcome.INVALID, error.message, error.param))
            return
        except CannotResume:
            self.fail(submit.id, Fault(submit.id, Outcome.ENGINE_ERROR, _CANNOT_RESUME))
            return
        if self._arrival is None:
            self._arrival = now
        self._taken.append(Taken(submit.id, answer.prompt_tokens))
        self._expire_at(answer.expires, submit.id)
        if not answer.sequences:
            self._end(answer)
            self._changed = True

    def _begin(self, answer: _Answer, taking: Taking) -> None:
        stops = _stops_of(taking)
        for index, sampling in enumerate(taking.choices):
            choice = open_choice(
                ChoiceId(answer.id, index),
                self._engine.tokenizer,
                sampling,
                stops=stops,
                stream=answer.stream,
            )
            id = self._new_sequence_id()
            self._engine.submit(id, taking.prompt_token_ids, sampling)
            self._hold(id, answer, choice)

    def _resume(self, answer: _Answer, taking: Taking, made: Sequence[Made]) -> None:
        """Go on where another worker ended, choice by choice."""
        stops = _stops_of(taking)
        for index, (sampling, before) in enumerate(zip(taking.choices, made, strict=True)):
            if before.finished:
                continue
            token_ids = before.token_ids
            tokenizer, id = self._engine.tokenizer, ChoiceId(answer.id, index)
            choice = CarefulChoice(id, tokenizer, sampling, stops=stops)
            choice.resume(before)
            left = left_of(sampling, len(token_ids))
            if left.tokens_max:
                sequence_id, prompt = self._new_sequence_id(), taking.prompt_token_ids
                self._engine.submit(sequence_id, prompt, left, made=token_ids)
                self._hold(sequence_id, answer, choice)
            elif piece := choice.take(_AT_ITS_LIMIT):
                answer.completion_tokens += piece.tokens
                self._pieces.append(piece)

    def abort(self, request_id: int) -> None:
        """Forget a request, and say when nothing of it is held; an unknown id is no error."""
        answer = self._answers.get(request_id)
        prompt_tokens, made = (answer.prompt_tokens, answer.tokens_made) if answer else (0, 0)
        self._freed.append(Freed(request_id, prompt_tokens, made))
        self._changed = True
        self._drop(request_id)

    def _drop(self, request_id: int) -> None:
        answer = self._answers.pop(request_id, None)
        if answer is None:
            return
        self._slow.discard(request_id)
        for id in answer.sequences:
            if self._sequences.pop(id, None) is not None:
                self._abort(id)

    def fail(self, request_id: int, fault: Fault) -> None:
        """End a request with a fault."""
        self._drop(request_id)
        self._faults.append(fault)

    def expire(self, now: float) -> None:
        """End what has used up its time."""
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            _, request_id = heapq.heappop(expiries)
            if request_id in self._answers:
                message = "The deadline passed while the request ran."
                self.fail(request_id, Fault(request_id, Outcome.TIMED_OUT, message))

    def answer(self, outputs: Sequence[StepOutput], now: float) -> tuple[Step | None, list[Fault]]:
        """Return what one step has made, and what has failed since the last time."""
        sequences, pieces = self._sequences, self._pieces
        for output in outputs:
            sequence = sequences.get(output.id)
            if sequence is None:
                continue
            answer = sequence.answer
            if made := len(output.token_ids) + output.tokens_hidden:
                self._tokens_made += made
                answer.tokens_made += made
                answer.last_token = now
                if answer.first_token is None:
                    self._begun(answer, now)
            if output.failure is not None:
                fault = Fault(answer.id, Outcome.ENGINE_ERROR, output.failure)
                self.fail(answer.id, fault)
                continue
            piece = sequence.choice.take(output)
            if piece is None:
                continue
            answer.completion_tokens += piece.tokens
            if answer.stream:
                pieces.append(piece)
            if piece.finish_reason is not None:
                self._finish(output, sequence, piece)
        kept = self._keep(now) if now - self._kept_told >= _KEPT_S else []
        return self._gather(kept, now)

    def _keep(self, now: float) -> list[Kept]:
        """Return what was made of answers of which nothing is handed out yet."""
        self._kept_told = now
        return [
            kept
            for sequence in self._sequences.values()
            if not sequence.answer.stream and (kept := sequence.choice.kept()) is not None
        ]

    def _begun(self, answer: _Answer, now: float) -> None:
        """Note the first token of a request: its grammar is made, if it has one."""
        answer.first_token = now
        if not answer.long:
            self._slow.discard(answer.id)

    def _finish(self, output: StepOutput, sequence: _Sequence, piece: Piece) -> None:
        """Note the end of one choice."""
        answer = sequence.answer
        del self._sequences[output.id]
        answer.sequences.remove(output.id)
        if output.embedding:
            answer.embedding = output.embedding
            self._tokens_made += 1  # no token, and progress all the same
        elif not answer.stream:
            answer.pieces.append(piece)
        if output.finish_reason is None:
            assert piece.finish_reason is FinishReason.STOP
            self._abort(output.id)
        if not answer.sequences:
            self._end(answer)
        self._changed = True

    def _abort(self, id: SequenceId) -> None:
        self._engine.abort(id)
        self._abort_owed = True

    def _end(self, answer: _Answer) -> None:
        """Note the end of a request; what is said of a whole one is said now."""
        del self._answers[answer.id]
        self._slow.discard(answer.id)
        self._pieces += answer.pieces
        first_token_s = decode_s = None
        if answer.first_token is not None:
            first_token_s = answer.first_token - answer.received
            decode_s = answer.last_token - answer.first_token
        end = End(
            answer.id,
            answer.prompt_tokens,
            answer.completion_tokens,
            first_token_s,
            decode_s,
            answer.embedding,
        )
        self._ends.append(end)

    def _gather(self, kept: list[Kept], now: float) -> tuple[Step | None, list[Fault]]:
        faults, self._faults = self._faults, []
        arrival = self._arrival
        changed = self._changed or (arrival is not None and now - arrival >= _ARRIVAL_S)
        if self._sequences and now - self._stats_read >= self._stats_s:
            changed = True
        if not (self._pieces or changed or kept):
            return None, faults
        changed |= arrival is not None
        self._changed, self._arrival = False, None
        if changed:
            self._stats_read = now
        taken, self._taken = self._taken, []
        pieces, self._pieces = self._pieces, []
        ends, self._ends = self._ends, []
        stats = self._engine.stats() if changed else None
        freed, self._freed = self._freed, []
        made = self._tokens_made
        return Step(taken, pieces, ends, made, stats, freed, self.slow, kept), faults

    def _expire_at(self, moment: float, request_id: int) -> None:
        expiries = self._expiries
        heapq.heappush(expiries, (moment, request_id))
        # What has ended stays in the heap; when it is most of the heap, the heap is made anew.
        if len(expiries) > 2 * len(self._answers) + 64:
            expiries[:] = [(answer.expires, answer.id) for answer in self._answers.values()]
            heapq.heapify(expiries)

    def _new_sequence_id(self) -> SequenceId:
        self._next_sequence += 1
        return SequenceId(self._next_sequence)

    def _hold(self, id: SequenceId, answer: _Answer, choice: Choice) -> None:
        answer.sequences.append(id)
        self._sequences[id] = _Sequence(answer, choice)


_AT_ITS_LIMIT: Final = StepOutput(SequenceId(0), (), FinishReason.LENGTH)
"""What an engine had left to say of a choice that has all its tokens."""


def _stops_of(taking: Taking) -> StopTable | None:
    stop = taking.choices[0].stop
    return StopTable(stop) if stop else None
