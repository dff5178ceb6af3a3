"""A client that keeps all it is told, and may leave at any moment, in any manner.

It costs more than `forebay.bench` does; it is for what a drill has to read, not to time.
"""

import asyncio
import enum
import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast

from forebay.bench.client import Target

_HEAD_BYTES_MAX: Final = 65_536
_READ_BYTES: Final = 65_536


class Leave(enum.StrEnum):
    """How a client vanishes."""

    FIN = "FIN"
    RST = "RST"
    SILENT = "silent"
    """It reads no more, and says nothing."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a client saw of one answer.  Moments are of the monotonic clock."""

    asked: float
    ended: float = 0.0
    first: float | None = None
    """When the first byte of the body came."""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    """The body came to its end."""

    @property
    def stream(self) -> bool:
        """Whether it is a stream of events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def frames(self) -> list[str]:
        """The `data:` payloads of a stream, in order."""
        lines = self.body.decode(errors="replace").split("\n")
        return [line[6:] for line in lines if line.startswith("data: ")]

    @property
    def failed(self) -> bool:
        """Whether a stream ended with an error in words."""
        return any(frame.startswith('{"error"') for frame in self.frames[-2:])

    @property
    def ok(self) -> bool:
        """Whether it is a whole, good answer."""
        if self.status != HTTPStatus.OK or not self.whole:
            return False
        return not self.stream or (self.frames[-1:] == ["[DONE]"] and not self.failed)

    @property
    def text(self) -> str:
        """The completion's text as far as it came."""
        if not self.stream:
            choice = json.loads(self.body)["choices"][0]
            return str(choice["text"] if "text" in choice else choice["message"]["content"])
        chunks = [json.loads(frame) for frame in self.frames if frame != "[DONE]"]
        choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
        return "".join(
            choice["text"] if "text" in choice else choice["delta"].get("content") or ""
            for choice in choices
        )

    def json(self) -> Any:  # noqa: ANN401 - JSON is what it is
        """Return the body as JSON."""
        return json.loads(self.body)


def chat(model: str, text: str, **fields: Any) -> bytes:  # noqa: ANN401 - as above
    """Return the body of a chat request of one turn."""
    wish = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    return json.dumps(wish).encode()


class Visit:
    """One request on a connection of its own.  Mutable state: what was seen so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use an open connection."""
        self._reader = reader
        self._writer = writer
        self.seen = Seen(asked=time.monotonic())

    @classmethod
    async def begun(
        cls,
        target: Target,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        receive_bytes: int = 0,
    ) -> "Visit":
        """Connect and send a chat request; `receive_bytes` makes the kernel's buffer small."""
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - the library's own signature
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (target.host, target.port))
        except OSError:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock, limit=_HEAD_BYTES_MAX)
        visit = cls(reader, writer)
        lines = ["POST /v1/chat/completions HTTP/1.1", f"host: {target.host}"]
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
        lines += ["connection: close", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        return visit

    async def read(self, *, bytes_min: int | None = None) -> Seen:
        """Read to the end, or until so many bytes of the body have come."""
        seen = self.seen
        try:
            if not seen.status:
                await self._read_head()
            if "chunked" in seen.headers.get("transfer-encoding", ""):
                await self._read_chunks(bytes_min)
            else:
                length = int(seen.headers.get("content-length", "0"))
                seen.body += await self._reader.readexactly(length - len(seen.body))
                seen.whole = True
        except (OSError, asyncio.IncompleteReadError):
            pass  # the server hung up: what came is what was seen
        seen.ended = time.monotonic()
        return seen

    async def _read_head(self) -> None:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines[1:] if line)
        self.seen.headers = {name.lower(): value.strip() for name, value in pairs}
        self.seen.status = int(lines[0].split()[1])

    async def _read_chunks(self, bytes_min: int | None) -> None:
        seen = self.seen
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            seen.body += (await self._reader.readexactly(size + 2))[:-2]
            seen.first = seen.first or time.monotonic()
            if bytes_min is not None and len(seen.body) >= bytes_min:
                return
        seen.whole = True

    def leave(self, how: Leave = Leave.FIN) -> None:
        """Vanish."""
        match how:
            case Leave.FIN:
                self._writer.close()
            case Leave.RST:
                sock = self._writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
            case Leave.SILENT:
                # uvloop's transports read and write, and derive from neither of asyncio's.
                cast("asyncio.Transport", self._writer.transport).pause_reading()


async def ask(target: Target, body: bytes, headers: Mapping[str, str] | None = None) -> Seen:
    """Ask and read to the end; where nobody listens, the answer's status is 0."""
    asked = time.monotonic()
    try:
        visit = await Visit.begun(target, body, headers)
    except OSError:
        return Seen(asked=asked, ended=time.monotonic())
    try:
        return await visit.read()
    finally:
        visit.leave()
