"""Prompts answered by a step engine, side by side, without a worker."""

import random
from collections.abc import Iterable
from typing import Any

from forebay.core.request import FinishReason, Sampling
from forebay.engine.protocol import SequenceId, StepEngine, StepOutput


class Answer:
    """What one sequence said."""

    def __init__(self, outputs: Iterable[StepOutput] = ()) -> None:
        self.outputs = list(outputs)

    @property
    def token_ids(self) -> list[int]:
        return [token for output in self.outputs for token in output.token_ids]

    @property
    def logprobs(self) -> list[float]:
        return [odds for output in self.outputs for odds in output.logprobs]

    @property
    def hidden(self) -> int:
        return sum(output.tokens_hidden for output in self.outputs)

    @property
    def reason(self) -> FinishReason | None:
        return self.outputs[-1].finish_reason


def answers(
    engine: StepEngine, *asked: tuple[list[int], Sampling], made: tuple[int, ...] = ()
) -> list[Answer]:
    """Answer several prompts at once."""
    found = {SequenceId(number): Answer() for number in range(len(asked))}
    for id, (prompt, sampling) in zip(found, asked, strict=True):
        engine.submit(id, prompt, sampling, made=made)
    while engine.stats().running + engine.stats().waiting:
        for output in engine.step():
            assert output.failure is None
            found[output.id].outputs.append(output)
    return list(found.values())


def text_of(engine: StepEngine, answer: Answer) -> str:
    detokenizer = engine.tokenizer.detokenizer()
    return detokenizer.push(answer.token_ids) + detokenizer.flush()


def greedy(tokens_max: int, **how: Any) -> Sampling:
    return Sampling(
        **{"tokens_max": tokens_max, "temperature": 0.0, "seed": 1, "ignore_eos": True} | how
    )


def a_prompt(length: int, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(3, 259) for _ in range(length)]
