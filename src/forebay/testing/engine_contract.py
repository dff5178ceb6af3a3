"""The promises of `Engine` as tests: for whoever writes one.

Derive a class named `Test…` from `EngineContract` and give it an async fixture `engine` that
yields a started engine and stops it afterwards.
"""

import asyncio
import dataclasses
import time
from contextlib import aclosing

import pytest

from forebay.core.errors import Invalid
from forebay.core.request import (
    Chat,
    Delta,
    Event,
    Finished,
    FinishReason,
    Message,
    Request,
    RequestId,
    Role,
    Route,
    Sampling,
    Scheduled,
    Text,
)
from forebay.engine.protocol import Engine, Feature
from forebay.engine.resuming import Passed


def a_request(text: str, *, stream: bool = True, **how: object) -> Request:
    """Return a plain prompt that is valid for a minute."""
    now = time.monotonic()
    known = {"tokens_max": 8, "seed": 7, "temperature": 0.0, "ignore_eos": True}
    return Request(
        id=RequestId("contract"),
        route=Route.COMPLETIONS,
        model="m",
        prompt=Text(text=text),
        sampling=Sampling(**(known | how)),  # type: ignore[arg-type]  # the tests name real fields
        received=now,
        deadline=now + 60.0,
        stream=stream,
    )


async def events_of(engine: Engine, request: Request) -> list[Event]:
    """Return every event of a request, in order."""
    async with aclosing(engine.generate(request)) as events:
        return [event async for event in events]


def deltas_of(events: list[Event], choice: int | None = None) -> list[Delta]:
    """Return the deltas, of one choice or of all."""
    deltas = [event for event in events if isinstance(event, Delta)]
    return [delta for delta in deltas if choice is None or delta.choice == choice]


def text_of(events: list[Event], choice: int = 0) -> str:
    """Return the text of one choice."""
    return "".join(delta.text for delta in deltas_of(events, choice))


class EngineContract:
    """Numbers are those of the protocol's promises."""

    async def test_1_a_started_engine_has_made_a_token(self, engine: Engine) -> None:
        """And knows what it is."""
        assert engine.progress() >= 1
        assert engine.info.context_tokens_max > 0
        assert engine.info.supports

    @pytest.mark.parametrize("stream", [True, False])
    async def test_2_events_come_in_order_and_end_with_finished(
        self, engine: Engine, *, stream: bool
    ) -> None:
        """At most one Scheduled first, exactly one Finished last, deltas between."""
        events = await events_of(engine, a_request("one two three", stream=stream))
        scheduled = [event for event in events if isinstance(event, Scheduled)]
        assert scheduled in ([], events[:1])
        assert isinstance(events[-1], Finished)
        between = events[len(scheduled) : -1]
        assert between
        assert all(isinstance(event, Delta) for event in between)
        reasons = [delta.finish_reason for delta in deltas_of(events)]
        assert reasons[:-1] == [None] * (len(reasons) - 1)
        assert reasons[-1] is FinishReason.LENGTH

    async def test_2_a_prompt_beyond_the_context_is_invalid_with_its_field(
        self, engine: Engine
    ) -> None:
        """With numbers, so that the client knows how far off it is."""
        limit = engine.info.context_tokens_max
        with pytest.raises(Invalid) as refusal:
            await events_of(engine, a_request("one two " * limit))
        assert refusal.value.param == "prompt"
        assert str(limit) in refusal.value.message

    async def test_2_a_limit_beyond_the_context_is_invalid_with_its_field(
        self, engine: Engine
    ) -> None:
        """Nothing is silently cut short."""
        limit = engine.info.context_tokens_max
        with pytest.raises(Invalid) as refusal:
            await events_of(engine, a_request("one two", tokens_max=limit + 1))
        assert refusal.value.param == "max_tokens"

    async def test_3_closing_the_iterator_aborts(self, engine: Engine) -> None:
        """No further token is made of it."""
        before, tokens_max = engine.progress(), engine.info.context_tokens_max - 100
        request = a_request("one two", tokens_max=tokens_max)
        async with aclosing(engine.generate(request)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        made = -1
        async with asyncio.timeout(5.0):
            while made != engine.progress():
                made = engine.progress()
                await asyncio.sleep(0.3)
        assert made - before < tokens_max // 2

    @pytest.mark.parametrize("stream", [True, False])
    async def test_4_usage_is_what_the_deltas_carry(self, engine: Engine, *, stream: bool) -> None:
        """Tokens of every delta, added up."""
        events = await events_of(engine, a_request("one two", tokens_max=13, stream=stream))
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.usage.completion_tokens == 13  # noqa: PLR2004 - as asked above
        assert sum(delta.tokens for delta in deltas_of(events)) == 13  # noqa: PLR2004 - the same
        assert finished.usage.prompt_tokens > 0

    async def test_10_an_embedding_is_a_vector_and_no_text(self, engine: Engine) -> None:
        """The same text has the same, another has another."""
        if Feature.EMBEDDINGS not in engine.info.supports:
            pytest.skip("it makes no embeddings")
        found = []
        for text in ("one two three", "one two three", "nine ten"):
            request = a_request(text, stream=False, embed=True, tokens_max=0)
            events = await events_of(engine, request)
            assert deltas_of(events) == []
            finished = events[-1]
            assert isinstance(finished, Finished)
            assert finished.usage.prompt_tokens > 0
            assert finished.usage.completion_tokens == 0
            found.append(finished.embedding)
        assert found[0]
        assert len(found[0]) % 4 == 0
        assert found[0] == found[1] != found[2]

    async def test_5_same_request_same_text_if_it_says_so(self, engine: Engine) -> None:
        """Whatever runs beside it."""
        if not engine.info.deterministic:
            pytest.skip("it does not promise that")
        request = a_request("one two three", tokens_max=20)
        alone = text_of(await events_of(engine, request))
        together = await asyncio.gather(*(events_of(engine, request) for _ in range(5)))
        assert all(text_of(events) == alone for events in together)

    async def test_7_progress_grows_with_every_token(self, engine: Engine) -> None:
        """By as many as the request made, at least."""
        before = engine.progress()
        await events_of(engine, a_request("one two", tokens_max=10))
        assert engine.progress() - before >= 10  # noqa: PLR2004 - as asked above

    async def test_9_it_goes_on_in_the_middle_of_an_answer_if_it_says_so(
        self, engine: Engine
    ) -> None:
        """Cut after every delta: usage covers all; the same text, if it is deterministic."""
        if not engine.info.resumable:
            pytest.skip("it does not promise that")
        limit = 10
        request = a_request("naïve 日本語 👩🏽 one", tokens_max=limit)
        whole = await events_of(engine, request)
        passed = Passed(request.sampling)
        for number, delta in enumerate(deltas_of(whole)[:-1]):
            passed.note(delta)
            rest = await events_of(engine, dataclasses.replace(request, made=passed.made()))
            finished = rest[-1]
            assert isinstance(finished, Finished)
            assert finished.usage.completion_tokens == limit
            known = deltas_of(whole)[: number + 1]
            counted = sum(delta.tokens for delta in [*known, *deltas_of(rest)])
            assert counted == limit
            if engine.info.deterministic:
                assert "".join(delta.text for delta in known) + text_of(rest) == text_of(whole)

    async def test_many_requests_at_once_do_not_mix(self, engine: Engine) -> None:
        """Each gets its own length."""
        sizes = range(1, 13)
        requests = [a_request(f"number {size}", tokens_max=size) for size in sizes]
        answers = await asyncio.gather(*(events_of(engine, request) for request in requests))
        made = [sum(delta.tokens for delta in deltas_of(events)) for events in answers]
        assert made == list(sizes)

    @pytest.mark.parametrize("stream", [True, False])
    async def test_choices_end_once_each(self, engine: Engine, *, stream: bool) -> None:
        """`n` answers to one prompt."""
        if Feature.CHOICES not in engine.info.supports:
            pytest.skip("it makes one choice")
        request = a_request("one two three", choices=3, stream=stream)
        events = await events_of(engine, request)
        for choice in range(3):
            reasons = [delta.finish_reason for delta in deltas_of(events, choice)]
            assert reasons.count(FinishReason.LENGTH) == 1
            assert reasons[-1] is FinishReason.LENGTH
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.usage.completion_tokens == 3 * 8

    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_stop_text_ends_the_answer_and_is_not_in_it(
        self, engine: Engine, *, stream: bool
    ) -> None:
        """Taken from the middle of what it says without one."""
        if Feature.STOP not in engine.info.supports:
            pytest.skip("it has no stop texts")
        request = a_request("one two three", tokens_max=30, stream=stream)
        free = text_of(await events_of(engine, request))
        middle = len(free) // 2
        stop = free[middle - 3 : middle + 3]
        request = a_request("one two three", tokens_max=30, stream=stream, stop=(stop, "\0never"))
        events = await events_of(engine, request)
        assert text_of(events) == free[: free.index(stop)]
        assert deltas_of(events)[-1].finish_reason is FinishReason.STOP

    async def test_logprobs_stand_beside_their_tokens(self, engine: Engine) -> None:
        """Their bytes, joined, are the text."""
        if Feature.LOGPROBS not in engine.info.supports:
            pytest.skip("it reports none")
        events = await events_of(engine, a_request("one two", tokens_max=9, logprobs=True))
        entries = [entry for delta in deltas_of(events) for entry in delta.logprobs]
        assert len(entries) == 9  # noqa: PLR2004 - as asked above
        assert b"".join(entry.utf8 for entry in entries).decode() == text_of(events)

    async def test_a_conversation_is_answered_if_it_says_so(self, engine: Engine) -> None:
        """Through the model's own template."""
        if Feature.CHAT not in engine.info.supports:
            pytest.skip("it has no chat template")
        turn = Message(role=Role.USER, content="one two three")
        request = a_request("")
        request = Request(
            id=request.id,
            route=Route.CHAT_COMPLETIONS,
            model="m",
            prompt=Chat(messages=(turn,)),
            sampling=request.sampling,
            received=request.received,
            deadline=request.deadline,
            stream=True,
        )
        events = await events_of(engine, request)
        assert len(text_of(events)) > 0
