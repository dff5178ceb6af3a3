"""Generations that a test steers, in place of doors and engines, and readers of them."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from forebay.core.clock import MONOTONIC
from forebay.core.errors import ServingError
from forebay.core.request import (
    Admitted,
    Begun,
    Delta,
    Event,
    Events,
    Finished,
    FinishReason,
    Request,
    RequestId,
    Scheduled,
    Source,
    Usage,
)
from forebay.serve.deadline import until
from tests.support.requests import a_request


class Generations:
    """Makes `tokens` deltas for each request, all named after how often it was asked.

    A step waits where `gate` is closed; an error in `failures` is raised instead of the finish.
    """

    def __init__(self, tokens: int = 3) -> None:
        self.tokens = tokens
        self.asked: list[Request] = []
        self.finished = 0
        self.held = 0
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def __call__(self, request: Request) -> Events:
        return until(request.deadline, self._made(request))

    async def _made(self, request: Request) -> Events:
        self.asked.append(request)
        turn = len(self.asked)
        self.held += 1
        try:
            yield Admitted()
            yield Scheduled(prompt_tokens=5)
            for index in range(self.tokens):
                await self.gate.wait()
                await asyncio.sleep(0)
                last = index == self.tokens - 1
                reason = FinishReason.STOP if last else None
                yield Delta(f"{turn}.{index} ", finish_reason=reason, token_ids=(index,))
            if self.failures:
                raise self.failures.pop()
            self.finished += 1
            yield Finished(Usage(5, self.tokens))
        finally:
            self.held -= 1


def asking(name: str = "a", /, **facts: Any) -> Request:
    """Return a streamed request that is valid for a minute; `name` makes its ids."""
    now = MONOTONIC()
    known: dict[str, Any] = {
        "id": RequestId(f"req-{name}"),
        "completion_id": f"chatcmpl-{name}",
        "created": 1_700_000_000 + len(name),
        "received": now,
        "deadline": now + 60.0,
        "stream": True,
    }
    return a_request(**(known | facts))


def keyed(name: str = "a", /, key: str = "k", **facts: Any) -> Request:
    """Return a request with a key."""
    return asking(name, key=key, **facts)


async def read(events: Events) -> list[Event]:
    """Return every event."""
    async with aclosing(events):
        return [event async for event in events]


async def outcome(events: Events) -> str:
    """Return the text that was read, or the name of what was raised."""
    try:
        return text_of(await read(events))
    except ServingError as error:
        return type(error).__name__


def text_of(events: list[Event]) -> str:
    """Return the text of what was read to its end."""
    assert isinstance(events[-1], Finished), events
    return "".join(event.text for event in events if isinstance(event, Delta))


def begun_of(events: list[Event]) -> Begun:
    """Return the name of an answer, which comes first and once."""
    assert isinstance(events[0], Begun)
    assert sum(isinstance(event, Begun) for event in events) == 1
    return events[0]


def source_of(events: list[Event]) -> Source:
    """Return where an answer came from."""
    return begun_of(events).source


def shown(events: list[Event]) -> list[Delta | Usage]:
    """Return what an encoder makes bytes of: the deltas and the counts."""
    return [
        replace(event, more=False, token_ids=()) if isinstance(event, Delta) else event.usage
        for event in events
        if isinstance(event, Delta | Finished)
    ]


async def eventually(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.001)
