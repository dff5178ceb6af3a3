"""Requests for tests, with everything that does not matter filled in."""

from typing import Any

from forebay.core.request import Chat, Message, Request, RequestId, Role, Route, Sampling


def a_chat(text: str = "hello there") -> Chat:
    """One user's turn."""
    return Chat(messages=(Message(role=Role.USER, content=text),))


def a_request(text: str = "hello there", /, **facts: Any) -> Request:
    """Return a request that is valid for an hour; `facts` replace any of its fields."""
    sampling = {
        name: facts.pop(name)
        for name in ("tokens_max", "choices", "stop", "seed", "logprobs", "ignore_eos")
        if name in facts
    }
    known: dict[str, Any] = {
        "id": RequestId("req-1"),
        "route": Route.CHAT_COMPLETIONS,
        "model": "m",
        "prompt": a_chat(text),
        "sampling": Sampling(**sampling),
        "received": 0.0,
        "deadline": 3600.0,
    }
    return Request(**(known | facts))
