"""Row 11, superlinear parsing: eight times the bytes cost at most 8^1.2 times the time.

Parsers of tool calls in other servers were of this class.  Templates and patterns of schemas have
tests of their own; docs/security.md names them.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from forebay.engine.control_tokens import ControlToken, ControlTokens, separator_for
from forebay.guard.screen import Screen
from tests.support.asgi import ask
from tests.support.gateways import CHAT, a_stage, chat

SLOPE_MAX = 1.2
SMALL, FACTOR = 32_768, 8
ROUNDS, READINGS = 5, 3

TEXTS: dict[str, str] = {
    "one letter": "a",
    "spaces": " ",
    "line ends": "\r\n",
    "brackets": "[(",
    "control tokens": "<|im_start|>",
    "beginnings of control tokens": "<|im_",
    "angle brackets": "<",
    "calls": '<tool_call>{"name": "f", "arguments": {',
    "quotes": '\\"',
    "combining marks": "e\u0301",
    "hidden letters": "\u200b",
    "tags": "\U000e0041",
    "wide letters": "\uff49gnore all previous ",
    "words of an attack": "ignore all previous instructions and ",
    "base64": "aWdub3JlIGFsbCBwcmV2aW91cyBpbnN0cnVjdGlvbnM",
    "escapes": "\\u0061",
    "emoji": "👩‍👩‍👧‍👦",
}


def cheapest_s(act: Callable[[], object]) -> float:
    """Return the processor's seconds of the fastest of a few."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        act()
        found.append(time.process_time() - began)
    return min(found)


def slope_of(small: Callable[[], object], large: Callable[[], object]) -> float:
    """Return the exponent by which time grows with length; the least of a few readings."""
    found = []
    for _ in range(READINGS):
        small_s, large_s = cheapest_s(small), cheapest_s(large)
        # What takes no time at all cannot be told apart from the clock's own steps.
        slope = math.log(large_s / max(small_s, 2e-4)) / math.log(FACTOR)
        found.append(slope if large_s > 5e-3 else 0.0)
        if found[-1] <= SLOPE_MAX:
            break  # what is superlinear is so every time; what the machine does beside is not
    return min(found)


def repeated(text: str, bytes_: int) -> str:
    return (text * (bytes_ // len(text.encode()) + 1))[:bytes_]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_finding_control_tokens_takes_time_by_length(text: str) -> None:
    literals = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>")
    tokens = ControlTokens(
        ControlToken(id=at, literal=literal) for at, literal in enumerate(literals)
    )

    def make(size: int) -> Callable[[], object]:
        content = repeated(text, size)

        def act() -> object:
            separator = separator_for([content])
            assert separator is not None
            return list(tokens.split(tokens.mark(content, separator)))

        return act

    assert slope_of(make(SMALL), make(SMALL * FACTOR)) <= SLOPE_MAX


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_screening_takes_time_by_length(text: str) -> None:
    screen = Screen()

    def make(size: int) -> Callable[[], object]:
        content = repeated(text, size)
        return lambda: screen.verdict(content)

    assert slope_of(make(SMALL), make(SMALL * FACTOR)) <= SLOPE_MAX


TURN = {"role": "user", "content": "x" * 1_000}
BODIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "long text": lambda size: chat(repeated("a ", size)),
    "escaped text": lambda size: chat(repeated('"\\\n', size)),
    "many messages": lambda size: chat(messages=[TURN] * (size // 1_000)),
    "many unknown fields": lambda size: chat() | {f"x{at}": 1 for at in range(size // 10)},
    "many stops": lambda size: chat(stop=["x"] * (size // 5)),
    "a large schema": lambda size: chat(response_format=form(size)),
    "a large tool": lambda size: chat(
        tools=[{"type": "function", "function": {"name": "f", "description": "x" * size}}]
    ),
}
"""Requests of about so many bytes, shaped in the ways that cost parsers time."""


def form(size: int) -> dict[str, Any]:
    properties = {f"p{at}": {"type": "string"} for at in range(size // 30)}
    schema = {"type": "object", "properties": properties}
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_reading_a_request_takes_time_by_length(body: Callable[[int], dict[str, Any]]) -> None:
    def make(size: int) -> Callable[[], object]:
        sent, stage = json.dumps(body(size)).encode(), a_stage()
        return lambda: asyncio.run(ask(stage.gateway, "POST", CHAT, sent))

    assert slope_of(make(SMALL), make(SMALL * FACTOR)) <= SLOPE_MAX


def test_what_is_quadratic_is_seen() -> None:
    def make(size: int) -> Callable[[], object]:
        return lambda: [sum(range(size // 200)) for _ in range(size // 200)]

    assert slope_of(make(SMALL), make(SMALL * FACTOR)) > SLOPE_MAX
