"""An ASGI application driven in-process, message by message: nothing is buffered or hidden."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from math import inf
from typing import Any

from forebay.gateway.exchange import CONNECTED

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Exchange:
    """One request to an application, and all that it answers."""

    def __init__(self, app: App, method: str, path: str, **headers: str) -> None:
        """Prepare; header names take `_` for `-`."""
        self._app = app
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.scope: Message = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("127.0.0.1", 1),
            "extensions": {CONNECTED: self},
            "headers": [
                (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
            ],
        }
        self.came = inf
        """When its head arrived: as the application came to it, unless a test says otherwise."""
        self._act: Callable[[], None] | None = None
        self._gone = False
        self.sent: list[Message] = []
        self.writable = asyncio.Event()
        self.writable.set()
        self.stuck = False
        self.task: asyncio.Task[None] | None = None

    def body(self, body: bytes, *, more: bool = False) -> "Exchange":
        """Let the application receive a piece of the body."""
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})
        return self

    @property
    def waiting(self) -> int:
        """Pieces of the body that the application has not received."""
        return self._inbox.qsize()

    def leave(self) -> None:
        """Close the connection, as a client does."""
        self._inbox.put_nowait({"type": "http.disconnect"})
        self._gone = True
        if self._act is not None:
            self._act()

    def when_gone(self, act: Callable[[], None] | None) -> None:
        """Tell the application when the client has left, as our connections do."""
        self._act = act
        if act is not None and self._gone:
            act()

    def is_clogged(self) -> bool:
        """Whether the test lets a write wait."""
        return not self.writable.is_set()

    def arrived(self) -> None:
        """Let the application receive the body, piece by piece."""

    async def answer(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, close: bool
    ) -> None:
        """Take a whole answer."""
        head = [*headers, *([(b"connection", b"close")] if close else [])]
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def start(self) -> "Exchange":
        """Let the application run beside the test."""
        self.task = asyncio.get_running_loop().create_task(self.run())
        return self

    async def run(self) -> None:
        """Run the application to its end; as uvicorn does, an error in it is a test's failure."""
        await self._app(self.scope, self.receive, self._send)

    async def receive(self) -> Message:
        """Return the next message from the client, when there is one."""
        return await self._inbox.get()

    async def _send(self, message: Message) -> None:
        self.stuck = not self.writable.is_set()
        await self.writable.wait()
        self.sent.append(message)

    async def sent_at_least(self, count: int) -> None:
        """Wait until so many messages were sent."""
        async with asyncio.timeout(5):
            while len(self.sent) < count:
                await asyncio.sleep(0)

    @property
    def ended(self) -> bool:
        """Whether the last message said that nothing follows."""
        last = self.sent[-1] if self.sent else {}
        return last.get("type") == "http.response.body" and not last.get("more_body", False)

    @property
    def status(self) -> int:
        """The answer's status."""
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def content(self) -> bytes:
        """The answer's body."""
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def json(self) -> Any:
        """The answer's body, parsed."""
        return json.loads(self.content)

    @property
    def frames(self) -> list[Any]:
        """The data of each event of a stream, parsed; `[DONE]` stays a text."""
        events = self.content.decode().removesuffix("\n\n").split("\n\n")
        assert all(event.startswith("data: ") and "\n" not in event for event in events)
        data = [event.removeprefix("data: ") for event in events]
        return [text if text == "[DONE]" else json.loads(text) for text in data]


async def ask(app: App, method: str, path: str, body: Any = None, **headers: str) -> Exchange:
    """Send one request, with a JSON or raw body, and return the finished exchange."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    exchange = Exchange(app, method, path, **headers).body(raw)
    async with asyncio.timeout(5):
        await exchange.run()
    return exchange
