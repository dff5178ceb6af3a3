"""The promises of `StepEngine` as tests: for whoever writes one.

Derive a class named `Test…` from `StepEngineContract` and give it a fixture `engine`.  The
engine may be shared between the tests, as each leaves it empty.
"""

import math
import struct
import time
from collections.abc import Iterator, Sequence
from itertools import count

import pytest

from forebay.core.request import FinishReason, JsonObject, Message, Role, Sampling, TokenId
from forebay.engine.protocol import Feature, Refused, SequenceId, StepEngine, StepOutput

_STEPS_MAX = 100_000
_HARD_TEXT = "naïve café, 日本語, 👩🏽‍🚀 and a tail"


def sampling(tokens_max: int, **facts: object) -> Sampling:
    """Return sampling as a worker passes it on: limit and seed are set."""
    known = {"tokens_max": tokens_max, "seed": 7, "temperature": 0.0, "ignore_eos": True}
    return Sampling(**(known | facts))  # type: ignore[arg-type]  # the tests name real fields


class Driver:
    """Drives an engine as a worker does, and keeps what comes out.  Mutable state: outputs."""

    def __init__(self, engine: StepEngine) -> None:
        """Use ids that this engine has not seen in any test before."""
        self._engine = engine
        self._ids = count(time.monotonic_ns())
        self.outputs: dict[SequenceId, list[StepOutput]] = {}

    def submit(self, text: str, how: Sampling, *, made: Sequence[TokenId] = ()) -> SequenceId:
        """Queue a prompt, and what is made of its answer."""
        id = SequenceId(next(self._ids))
        self.outputs[id] = []
        self._engine.submit(id, self._engine.tokenizer.encode(text), how, made=made)
        return id

    def step(self) -> None:
        """Make one step, no longer than promised."""
        began = time.monotonic()
        outputs = self._engine.step()
        assert time.monotonic() - began < self._engine.info.step_s_max
        for output in outputs:
            self.outputs[output.id].append(output)

    def finish(self) -> None:
        """Step until every sequence has ended."""
        for _ in range(_STEPS_MAX):
            if all(self.reason(id) for id in self.outputs):
                return
            self.step()
        raise AssertionError("the sequences do not end")

    def tokens(self, id: SequenceId) -> list[TokenId]:
        """Return what a sequence has said."""
        return [token for output in self.outputs[id] for token in output.token_ids]

    def embedding(self, text: str, adapter: str = "") -> list[float]:
        """Return the vector of a text."""
        how = Sampling(embed=True, tokens_max=0, seed=0, adapter=adapter)
        id = self.submit(text, how)
        self.finish()
        (output,) = self.outputs[id]
        assert output.finish_reason is FinishReason.STOP
        assert not output.token_ids
        return list(struct.unpack(f"<{len(output.embedding) // 4}f", output.embedding))

    def reason(self, id: SequenceId) -> FinishReason | None:
        """Return why a sequence has ended; None if it has not."""
        outputs = self.outputs[id]
        return outputs[-1].finish_reason if outputs else None


class StepEngineContract:
    """Numbers are those of the protocol's promises."""

    @pytest.fixture
    def driver(self, engine: StepEngine) -> Iterator[Driver]:
        """Drive the engine; afterwards nothing of the test is in it."""
        driver = Driver(engine)
        yield driver
        for id in driver.outputs:
            engine.abort(id)
        engine.step()

    def test_1_what_it_cannot_honour_is_refused_and_hurts_nobody(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """A grammar, where there are none."""
        if Feature.JSON_OBJECT in engine.info.supports:
            pytest.skip("it honours grammars")
        other = driver.submit("one two three", sampling(4))
        with pytest.raises(Refused) as refusal:
            driver.submit("one two", sampling(4, grammar=JsonObject()))
        assert refusal.value.message
        driver.outputs = {other: driver.outputs[other]}
        driver.finish()
        assert len(driver.tokens(other)) == 4  # noqa: PLR2004 - as asked above

    def test_2_with_nothing_to_do_a_step_returns_nothing_at_once(self, engine: StepEngine) -> None:
        """No sequence, no output, no waiting."""
        began = time.monotonic()
        assert list(engine.step()) == []
        assert time.monotonic() - began < 0.1  # noqa: PLR2004 - seconds: nothing is computed

    @pytest.mark.parametrize("tokens_max", [1, 2, 17])
    def test_3_a_sequence_makes_exactly_its_limit_and_says_so(
        self, driver: Driver, tokens_max: int
    ) -> None:
        """`ignore_eos` makes lengths exact."""
        id = driver.submit("one two three", sampling(tokens_max))
        driver.finish()
        assert len(driver.tokens(id)) == tokens_max
        assert driver.reason(id) is FinishReason.LENGTH

    def test_3_only_the_last_output_carries_a_reason_and_nothing_follows(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """Outputs of each id are new tokens."""
        id = driver.submit("one two three", sampling(5))
        driver.finish()
        assert [output.finish_reason for output in driver.outputs[id][:-1]] == [None] * (
            len(driver.outputs[id]) - 1
        )
        assert list(engine.step()) == []

    def test_3_more_sequences_than_run_together_all_finish(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """What does not fit into the batch waits inside the engine."""
        many = min(engine.info.running_max + 3, 40)
        ids = [driver.submit(f"number {n} of many", sampling(3 + n % 3)) for n in range(many)]
        driver.finish()
        assert [len(driver.tokens(id)) for id in ids] == [3 + n % 3 for n in range(many)]

    def test_4_after_an_abort_there_is_no_output_and_nothing_is_held(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """Memory is free when the next step has returned."""
        doomed = driver.submit("one two three", sampling(200))
        other = driver.submit("one two three", sampling(30))
        for _ in range(3):
            driver.step()
        engine.abort(doomed)
        before = list(driver.outputs[doomed])
        driver.step()
        stats = engine.stats()
        assert stats.running + stats.waiting == 1
        while driver.reason(other) is None:
            driver.step()
        assert driver.outputs[doomed] == before
        assert engine.stats().running == engine.stats().waiting == 0

    def test_4_aborting_what_is_not_there_is_no_error(self, engine: StepEngine) -> None:
        """Twice is once."""
        engine.abort(SequenceId(2**40))
        engine.abort(SequenceId(2**40))

    def test_4_a_sequence_that_waits_can_be_aborted(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """Before its first step."""
        id = driver.submit("one two three", sampling(50))
        engine.abort(id)
        driver.step()
        assert driver.outputs[id] == []
        assert engine.stats().running + engine.stats().waiting == 0

    def test_6_the_counter_grows_by_what_is_made(self, engine: StepEngine, driver: Driver) -> None:
        """And never falls."""
        before = engine.stats().tokens_made
        driver.submit("one two three", sampling(9))
        seen = [before]
        while any(driver.reason(id) is None for id in driver.outputs):
            driver.step()
            seen.append(engine.stats().tokens_made)
        assert seen == sorted(seen)
        assert seen[-1] - before >= 9  # noqa: PLR2004 - as asked above

    def test_8_it_goes_on_after_what_is_made_if_it_says_so(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """With the rest of the limit, at every cut; the same tokens, if it is deterministic."""
        if not engine.info.resumable:
            pytest.skip("it does not promise that")
        limit = 12
        whole = driver.submit("one two three four", sampling(limit))
        driver.finish()
        tokens = driver.tokens(whole)
        for cut in range(1, limit):
            id = driver.submit("one two three four", sampling(limit - cut), made=tokens[:cut])
            driver.finish()
            assert driver.reason(id) is FinishReason.LENGTH
            assert len(driver.tokens(id)) == limit - cut
            if engine.info.deterministic:
                assert driver.tokens(id) == tokens[cut:]

    def test_9_an_input_becomes_one_vector_of_length_1_and_no_tokens(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """The same for the same text, beside others; another for another text."""
        if Feature.EMBEDDINGS not in engine.info.supports:
            pytest.skip("it makes no embeddings")
        before = engine.stats().tokens_made
        alone = driver.embedding("one two three")
        assert len(alone) == engine.info.embedding_size
        assert math.hypot(*alone) == pytest.approx(1.0, abs=1e-3)
        assert engine.stats().tokens_made == before
        other = driver.submit("one two three", sampling(40))
        again, different = driver.embedding("one two three"), driver.embedding("nine ten")
        assert again == pytest.approx(alone, abs=0.02)
        assert sum(a * b for a, b in zip(alone, different, strict=True)) < 0.9999  # noqa: PLR2004 - rounding
        driver.finish()
        assert len(driver.tokens(other)) == 40  # noqa: PLR2004 - as asked above
        assert engine.stats().running + engine.stats().waiting == 0

    def test_9_a_long_input_keeps_nobody_longer_than_a_step(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """`Driver.step` measures each; an abort before the end leaves nothing."""
        if Feature.EMBEDDINGS not in engine.info.supports:
            pytest.skip("it makes no embeddings")
        long = "one two three " * (min(engine.info.context_tokens_max, 2_000) // 20)
        how = Sampling(embed=True, tokens_max=0, seed=0)
        kept, doomed = driver.submit(long, how), driver.submit(long, how)
        engine.abort(doomed)
        other = driver.submit("one two three", sampling(5))
        while not (driver.reason(kept) and driver.reason(other)):
            driver.step()
        assert driver.outputs[doomed] == []
        assert len(driver.outputs[kept][0].embedding) == 4 * engine.info.embedding_size
        assert engine.stats().running + engine.stats().waiting == 0

    def test_same_seed_same_tokens_if_it_says_so(self, engine: StepEngine, driver: Driver) -> None:
        """Whatever runs beside it."""
        if not engine.info.deterministic:
            pytest.skip("it does not promise that")
        alone = driver.submit("one two three four", sampling(12, temperature=0.7))
        driver.finish()
        ids = [driver.submit("one two three four", sampling(12, temperature=0.7)) for _ in "abc"]
        driver.finish()
        assert all(driver.tokens(id) == driver.tokens(alone) for id in ids)

    def test_each_token_has_its_logprob_where_asked(
        self, engine: StepEngine, driver: Driver
    ) -> None:
        """A natural logarithm, so at most 0."""
        if Feature.LOGPROBS not in engine.info.supports:
            pytest.skip("it reports none")
        id = driver.submit("one two three", sampling(6, logprobs=True))
        driver.finish()
        for output in driver.outputs[id]:
            assert len(output.logprobs) == len(output.token_ids)
            assert all(logprob <= 1e-6 for logprob in output.logprobs)  # noqa: PLR2004 - rounding

    def test_min_tokens_puts_the_end_off(self, engine: StepEngine, driver: Driver) -> None:
        """However early it would stop."""
        if Feature.TOKENS_MIN not in engine.info.supports:
            pytest.skip("it has no min_tokens")
        id = driver.submit("one", sampling(40, tokens_min=20, ignore_eos=False))
        driver.finish()
        assert len(driver.tokens(id)) >= 20  # noqa: PLR2004 - as asked above

    def test_the_detokenizer_gives_text_back_and_never_part_of_a_character(
        self, engine: StepEngine
    ) -> None:
        """One token at a time, in sevens, or all at once: the same text."""
        token_ids = engine.tokenizer.encode(_HARD_TEXT)
        for size in (1, 7, len(token_ids)):
            detokenizer = engine.tokenizer.detokenizer()
            parts = [
                detokenizer.push(token_ids[start : start + size])
                for start in range(0, len(token_ids), size)
            ]
            parts.append(detokenizer.flush())
            assert "".join(parts).strip() == _HARD_TEXT
            assert not any("\ufffd" in part for part in parts)

    def test_a_tokens_bytes_are_what_it_adds_to_the_text(self, engine: StepEngine) -> None:
        """Joined, they are the text."""
        tokenizer = engine.tokenizer
        said = b"".join(map(tokenizer.token_bytes, tokenizer.encode(_HARD_TEXT)))
        assert said.decode().strip() == _HARD_TEXT

    def test_a_conversation_is_rendered_if_it_says_so(self, engine: StepEngine) -> None:
        """And makes tokens of its vocabulary."""
        if Feature.CHAT not in engine.info.supports:
            pytest.skip("it has no chat template")
        turn = Message(role=Role.USER, content="one two three")
        token_ids = engine.tokenizer.chat((turn,))
        size = engine.info.vocabulary_size
        assert token_ids
        assert all(token_id >= 0 and (not size or token_id < size) for token_id in token_ids)
