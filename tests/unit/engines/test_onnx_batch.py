"""Rows without holes, memory that is enough, and nobody forgotten: whatever comes and goes."""

import random

import pytest

from forebay.core.request import Sampling
from forebay.engine.protocol import SequenceId
from forebay.engines.onnx_batch import Batch, Growing

BLOCK = 4


class Memory:
    """Rows that know whose tokens they hold; a move or a release of anything else fails."""

    def __init__(self) -> None:
        self.rows: dict[int, list[int]] = {}

    def write(self, row: int, past: int, tokens: list[int]) -> None:
        held = self.rows.setdefault(row, [])
        assert len(held) == past
        held.extend(tokens)

    def move(self, source: int, target: int, tokens: int) -> None:
        assert not self.rows.get(target)
        assert len(self.rows.get(source, [])) == tokens
        self.rows[target] = self.rows.pop(source, [])

    def release(self, row: int, tokens: int) -> None:
        assert len(self.rows.pop(row, [])) == tokens


def a_sequence(number: int, length: int) -> Growing:
    return Growing(
        id=SequenceId(number),
        tokens=[number * 1_000 + place for place in range(length)],
        prompt_tokens=length,
        end_least=0,
        end_most=length + 10,
        sampling=Sampling(),
    )


def a_batch(memory: Memory, *, running_max: int = 4, blocks_max: int = 12) -> Batch:
    return Batch(memory, running_max=running_max, blocks_max=blocks_max, block_tokens=BLOCK)


def step(batch: Batch, memory: Memory, *, chunk_tokens: int) -> None:
    """Do what an engine does in a step, on paper."""
    batch.make_room()
    for row, sequence in enumerate(batch.answering):
        memory.write(row, sequence.read, [sequence.tokens[-1]])
        sequence.read += 1
        sequence.tokens.append(-1)
    left = chunk_tokens
    while left > 0 and (chunk := batch.chunk(left)) is not None:
        memory.write(chunk.row, chunk.sequence.read, list(chunk.token_ids))
        left -= chunk.count
        if batch.advance(chunk):
            chunk.sequence.tokens.append(-1)


def check(batch: Batch, memory: Memory) -> None:
    """Each row holds what was read of its own sequence, and no row beyond holds anything."""
    for row, sequence in enumerate(batch.running):
        assert memory.rows.get(row, []) == sequence.tokens[: sequence.read]
    assert not any(memory.rows.get(row) for row in memory.rows if row >= len(batch.running))


@pytest.mark.parametrize("seed", range(30))
def test_rows_have_no_holes_and_hold_the_right_tokens_whatever_comes_and_goes(seed: int) -> None:
    rng = random.Random(seed)
    memory = Memory()
    batch = a_batch(memory)
    known: dict[int, Growing] = {}
    for number in range(200):
        if rng.random() < 0.4:
            known[number] = a_sequence(number, rng.randint(1, 20))
            batch.add(known[number])
        if known and rng.random() < 0.3:
            doomed = rng.choice(list(known))
            batch.drop(known.pop(doomed).id)
        step(batch, memory, chunk_tokens=rng.randint(1, 12))
        for one in [one for one in batch.running if len(one.tokens) >= one.end_most]:
            batch.drop(known.pop(one.id).id)
        check(batch, memory)
        assert {one.id for one in (*batch.running, *batch.waiting)} == known.keys()
        held = sum(-(-len(tokens) // BLOCK) for tokens in memory.rows.values())
        assert held <= 12


def test_who_waits_comes_in_turn_and_no_more_than_may_run() -> None:
    memory = Memory()
    batch = a_batch(memory, running_max=2, blocks_max=100)
    for number in range(4):
        batch.add(a_sequence(number, 3))
    step(batch, memory, chunk_tokens=100)
    assert [one.id for one in batch.running] == [0, 1]
    batch.drop(SequenceId(0))
    step(batch, memory, chunk_tokens=100)
    assert [one.id for one in batch.running] == [1, 2]


def test_a_long_prompt_is_read_in_parts_while_others_are_answered() -> None:
    memory = Memory()
    batch = a_batch(memory, blocks_max=100)
    batch.add(a_sequence(1, 2))
    step(batch, memory, chunk_tokens=8)
    batch.add(a_sequence(2, 20))
    made = []
    while batch.reading is not None or batch.waiting:
        step(batch, memory, chunk_tokens=8)
        made.append(len(batch.answering[0].tokens))
    assert made == [4, 5, 6]


def test_the_last_that_came_in_gives_way_and_comes_next() -> None:
    memory = Memory()
    batch = a_batch(memory, blocks_max=5)
    batch.add(a_sequence(1, 6))
    batch.add(a_sequence(2, 6))
    batch.add(a_sequence(3, 1))
    step(batch, memory, chunk_tokens=100)
    while len(batch.running) == 2:
        step(batch, memory, chunk_tokens=0)
    assert [one.id for one in batch.running] == [1]
    assert [one.id for one in batch.waiting] == [2, 3]
    assert batch.waiting[0].read == 0
    check(batch, memory)


def test_one_that_waits_can_be_dropped_and_an_unknown_one_is_no_error() -> None:
    batch = a_batch(Memory())
    batch.add(a_sequence(1, 3))
    batch.drop(SequenceId(1))
    batch.drop(SequenceId(1))
    assert not batch.waiting
