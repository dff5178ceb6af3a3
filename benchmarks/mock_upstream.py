"""A mock upstream: constant answers of an OpenAI-compatible server, and as little work as can be.

Whole answers have 320 bytes; streams have 64 events of 160 bytes, then the usage and `[DONE]`.
"""

import argparse
import asyncio
from typing import Final, cast

import uvloop

_TEXT: Final = b"x" * 160
_WHOLE: Final = (
    b'{"id":"chatcmpl-0","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + _TEXT + b'"},"finish_reason":"length"}],'
    b'"usage":{"prompt_tokens":20,"completion_tokens":8,"total_tokens":28}}'
)
_CHUNK: Final = (
    b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":%b}]}\n\n'
)
_EVENT: Final = _CHUNK % b"null"
_LAST: Final = _CHUNK % b'"length"'
_USAGE: Final = (
    b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":64,"total_tokens":84}}\n\n'
    b"data: [DONE]\n\n"
)
_MODELS: Final = b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"vllm"}]}'
EVENTS: Final = 64
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _json(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_ANSWERS: Final = {b"G": _json(_MODELS), b"P": _json(_WHOLE)}
_PIECES: Final = (*[_chunk(_EVENT)] * (EVENTS - 1), _chunk(_LAST + _USAGE) + b"0\r\n\r\n")


class Mock(asyncio.Protocol):
    """One connection.  Mutable state: what has come of a request, what is left of a stream."""

    def __init__(self, pace_s: float) -> None:
        """Send an event every `pace_s`; 0: all at once, a write each."""
        self._pace_s = pace_s
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer, once a request is whole."""
        assert self._transport is not None
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        if not end:
            return
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if len(body) < int(length or 0):
            return
        self._came = b""
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self._transport.write(_ANSWERS[head[:1]])
            return
        self._transport.write(_STREAM)
        if self._pace_s:
            self._send(0, asyncio.get_running_loop().time())
        else:
            for piece in _PIECES:
                self._transport.write(piece)

    def _send(self, number: int, began: float) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._transport.write(_PIECES[number])
        if number + 1 < EVENTS:
            due = began + (number + 1) * self._pace_s
            asyncio.get_running_loop().call_at(due, self._send, number + 1, began)


async def _serve(port: int, pace_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Mock(pace_s), "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Serve on --port until a signal ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pace", type=float, default=0.0, help="seconds between events")
    chosen = parser.parse_args()
    uvloop.run(_serve(chosen.port, chosen.pace))


if __name__ == "__main__":
    main()
