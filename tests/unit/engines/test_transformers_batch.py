from collections.abc import Iterable

from forebay.core.request import Sampling
from forebay.engine.protocol import SequenceId
from forebay.engines.transformers_batch import Batch, Growing
from forebay.engines.transformers_kv import Row


class Rows:
    """KV memory of so many tokens, counted."""

    def __init__(self, tokens: int = 10_000) -> None:
        self._tokens = tokens
        self.held: dict[int, int] = {}

    def hold(self, row: Row, tokens: int, *, expected: int) -> bool:
        assert expected >= tokens
        others = sum(self.held.values()) - self.held.get(id(row), 0)
        if others + tokens > self._tokens:
            return False
        self.held[id(row)] = tokens
        return True

    def release(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.held.pop(id(row), None)
            row.tokens = 0


def a_sequence(id: int, tokens: int, *, most: int = 1_000) -> Growing:
    return Growing(
        id=SequenceId(id),
        tokens=list(range(tokens)),
        prompt_tokens=tokens,
        end_least=0,
        end_most=most,
        sampling=Sampling(),
    )


def step(batch: Batch) -> dict[int, int]:
    """Read what is planned, and make a token of each that is read to its end."""
    shares = batch.plan()
    for share in shares:
        last = share.last
        share.sequence.row.tokens += share.count
        if last:
            share.sequence.tokens.append(7)
    return {share.sequence.id: share.count for share in shares}


def test_a_long_prompt_is_spread_over_steps() -> None:
    batch = Batch(Rows(), running_max=4, tokens_max=32)
    batch.add(a_sequence(1, 70))
    assert [step(batch) for _ in range(4)] == [{1: 32}, {1: 32}, {1: 6}, {1: 1}]


def test_those_that_are_answered_go_on_while_others_are_read() -> None:
    batch = Batch(Rows(), running_max=4, tokens_max=32)
    batch.add(a_sequence(1, 5))
    step(batch)
    batch.add(a_sequence(2, 40))
    batch.add(a_sequence(3, 5))
    assert step(batch) == {1: 1, 2: 31}
    assert step(batch) == {1: 1, 2: 9, 3: 5}


def test_prompts_go_on_however_many_are_answered() -> None:
    batch = Batch(Rows(), running_max=100, tokens_max=32)
    for id in range(60):
        batch.add(a_sequence(id, 1))
    while batch.waiting:
        step(batch)
    batch.add(a_sequence(99, 40))
    assert step(batch)[99] == 16


def test_no_more_run_than_may_and_they_come_in_order() -> None:
    batch = Batch(Rows(), running_max=2, tokens_max=512)
    for id in range(4):
        batch.add(a_sequence(id, 3))
    assert list(step(batch)) == [0, 1]
    batch.drop([SequenceId(0)])
    assert list(step(batch)) == [1, 2]


def test_the_youngest_gives_way_and_is_read_again_from_its_beginning() -> None:
    rows = Rows(tokens=20)
    batch = Batch(rows, running_max=4, tokens_max=512)
    batch.add(a_sequence(1, 8))
    batch.add(a_sequence(2, 8))
    waited = False
    for _ in range(8):
        shares = step(batch)
        assert 1 in shares
        waited = waited or list(batch.running) == [1]
    assert waited
    assert [one.id for one in batch.waiting] == [2]
    batch.drop([SequenceId(1)])
    again = step(batch)
    assert again[2] > 8


def test_who_gave_way_comes_back_before_those_who_never_ran() -> None:
    batch = Batch(Rows(tokens=20), running_max=4, tokens_max=512)
    for id in (1, 2, 3):
        batch.add(a_sequence(id, 8))
    while 2 in batch.running or not batch.running:
        step(batch)
    assert [one.id for one in batch.waiting] == [2, 3]


def test_dropping_gives_the_memory_back_wherever_a_sequence_is() -> None:
    rows = Rows()
    batch = Batch(rows, running_max=1, tokens_max=512)
    first, second, third = (a_sequence(id, 3) for id in range(3))
    for one in (first, second, third):
        batch.add(one)
    step(batch)
    assert batch.drop([SequenceId(2), SequenceId(0), SequenceId(77)]) == [first, third]
    assert rows.held == {}
    assert list(batch.waiting) == [second]
