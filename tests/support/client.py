"""A small HTTP client for whole processes: it can leave at any moment, and hide nothing."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Answer:
    """What came back: status, headers, raw body, and the frames of a stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def frames(self) -> list[str]:
        """The `data:` payloads of a stream, in order."""
        return [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]

    @property
    def text(self) -> str:
        """The completion's text, of whichever dialect and form."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            chunks = [json.loads(frame) for frame in self.frames if frame != "[DONE]"]
            choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
            return "".join(
                choice["text"] if "text" in choice else choice["delta"].get("content") or ""
                for choice in choices
            )
        choice = json.loads(self.body)["choices"][0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


def chat_body(model: str, text: str, **fields: Any) -> dict[str, Any]:
    """Return a chat request of one user turn."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def post(port: int, path: str, body: Any, bytes_max: int | None = None) -> Answer:
    """POST JSON and read the answer; after `bytes_max` bytes of it, vanish."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(payload)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + payload)
        await writer.drain()
        return await _read(reader, bytes_max)
    finally:
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader, bytes_max: int | None) -> Answer:
    answer = Answer()
    if bytes_max == 0:
        return answer
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    answer.status = int(lines[0].split()[1])
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    answer.headers = {name.lower(): value.strip() for name, value in pairs}
    if "chunked" not in answer.headers.get("transfer-encoding", ""):
        answer.body = await reader.read(-1)
        return answer
    while size := int((await reader.readline()).split(b";")[0], 16):
        answer.body += (await reader.readexactly(size + 2))[:-2]
        if bytes_max is not None and len(answer.body) >= bytes_max:
            break
    return answer
