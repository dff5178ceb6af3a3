"""Calls of `/generate` and its kin."""

from typing import Any

from tests.support.asgi import Exchange, ask
from tests.support.gateways import Stage

SINGLE = ("/generate", "/generate_stream", "/infer")
EVERY = (*SINGLE, "/generate_batch")


async def post(stage: Stage, path: str, /, *, headers: Any = None, **fields: Any) -> Exchange:
    """Ask for one answer; `prompt` or `prompts`, and all else, may be replaced."""
    body = ({"prompts": ["hello"]} if path == "/generate_batch" else {"prompt": "hello"}) | fields
    return await ask(stage.gateway, "POST", path, body, **(headers or {}))
