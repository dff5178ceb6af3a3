"""The floor: uvicorn alone, constant answers, no work.  What this machine allows at most."""

import argparse
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvicorn

_BODY: Final = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"' + b"x" * 250 + b'"}}]}'
)
_EVENT: Final = (
    b'data: {"choices":[{"index":0,"delta":{"content":"word "}}],"id":"' + b"x" * 100 + b'"}\n\n'
)
_EVENTS: Final = 64


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer with 64 events if the body asks for a stream, else with 320 bytes."""
    if scope["type"] != "http":
        return
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    stream = b'"stream": true' in body
    kind = b"text/event-stream" if stream else b"application/json"
    length = [] if stream else [(b"content-length", str(len(_BODY)).encode())]
    headers = [(b"content-type", kind), *length]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if stream:
        for _ in range(_EVENTS):
            await send({"type": "http.response.body", "body": _EVENT, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
    else:
        await send({"type": "http.response.body", "body": _BODY})


def main() -> None:
    """Serve on --port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
