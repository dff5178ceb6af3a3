"""Sound requests of every kind, from which hostile ones are made."""

import json
import random
from collections.abc import Mapping
from typing import Any, Final

from forebay.drill.hostile_case import MODEL

_WORDS: Final = ("a", "healthy", "request", "that", "ends", "soon", "né", "日本", "🙂")
_PAGES: Final = (
    *("/livez", "/readyz", "/startupz", "/health", "/metrics", "/prometheus", "/models"),
    *("/model/info", "/status", "/v1/models", f"/v1/models/{MODEL}", "/v1/capabilities"),
    *("/docs", "/openapi.json", "/admin/ledger", "/admin/models", "/admin/routes"),
    *("/v1/streams/none", "/nothing", "/", "/auth/login", "/v1/usage"),
)
_POSTS_SHARE: Final = 0.75
_TOKENS_MAX: Final = 8


def sound(draw: random.Random) -> tuple[str, str, bytes]:
    """Return method, path and body of a request with nothing wrong."""
    if draw.random() > _POSTS_SHARE:
        return draw.choice(("GET", "GET", "HEAD", "OPTIONS")), draw.choice(_PAGES), b""
    path, body = completion(draw)
    return "POST", path, json.dumps(body, ensure_ascii=draw.random() < 0.5).encode()  # noqa: PLR2004 - half


def completion(draw: random.Random) -> tuple[str, Mapping[str, Any]]:
    """Return path and body of a sound request that makes tokens."""
    text = " ".join(draw.choices(_WORDS, k=draw.randint(1, 12)))
    tokens, stream = draw.randint(1, _TOKENS_MAX), draw.random() < 0.3  # noqa: PLR2004 - a share
    turns = [{"role": "user", "content": text}]
    shapes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/v1/chat/completions", {"messages": turns, "max_tokens": tokens, "stream": stream}),
        ("/v1/completions", {"prompt": text, "max_tokens": tokens, "stream": stream}),
        ("/v1/responses", {"input": text, "max_output_tokens": tokens, "stream": stream}),
        ("/v1/embeddings", {"input": [text, "another"]}),
        ("/generate", {"prompt": text, "max_new_tokens": tokens}),
        ("/generate_stream", {"prompt": text, "max_new_tokens": tokens}),
        ("/generate_batch", {"prompts": [text, "two"], "max_new_tokens": tokens}),
        ("/infer", {"prompt": text, "max_new_tokens": tokens}),
    )
    path, body = draw.choice(shapes)
    return path, {"model": MODEL, **body}
