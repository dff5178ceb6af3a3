"""One HTTP/1.1 answer, read as it comes: status, body or server-sent events, and when.

Only what a load tool needs of a server it knows: a Content-Length or chunks, no trailers, no
compression.  Anything else is a `BadAnswer`, never a guess.
"""

import enum
import re
from dataclasses import dataclass, field
from typing import Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_EVENTS: Final = re.compile(rb"\r\ncontent-type: *text/event-stream", re.IGNORECASE)
_HEAD_BYTES_MAX: Final = 65_536
_DONE: Final = b"data: [DONE]"
_ERROR: Final = b'data: {"error"'


class BadAnswer(Exception):
    """What came is not an answer that this reader knows."""


class _Part(enum.Enum):
    HEAD = enum.auto()
    LENGTH = enum.auto()
    SIZE = enum.auto()
    CHUNK = enum.auto()
    END = enum.auto()


@dataclass(slots=True)
class Answer:
    """What has come so far.  Moments are those given to `feed`."""

    status: int = 0
    head: bytes = b""
    """Status line and headers."""
    events: int = 0
    """Data events of a stream; neither `[DONE]` nor errors."""
    done: bool = False
    """The stream said `[DONE]`."""
    failed: bool = False
    """The stream ended with an error event."""
    complete: bool = False
    first: float | None = None
    """When the first data event came that is not among those to skip."""
    last: float | None = None
    """When the last data event came."""
    last_event: bytes = b""
    body: bytes = b""
    """The body of an answer that is not a stream."""

    _skip: int = 0
    """Data events that carry no text yet: a chat stream begins with one that names the role."""
    _part: _Part = _Part.HEAD
    _rest: bytes = b""
    """Bytes of the head, or of a chunk's size line, that are not complete."""
    _left: int = 0
    """Bytes still to come of the body or the chunk, its line end included."""
    _tail: bytes = b""
    """The beginning of an event."""
    _pieces: list[bytes] = field(default_factory=list)
    _stream: bool = False

    @classmethod
    def expected(cls, *, events_to_skip: int = 0) -> "Answer":
        """Return an answer of which nothing has come."""
        return cls(_skip=events_to_skip)

    def header(self, name: str) -> str | None:
        """Return a header's value, if the answer has it."""
        found = re.search(rb"(?i)\r\n%s:[ \t]*([^\r]*)" % re.escape(name.encode()), self.head)
        return None if found is None else found[1].decode("latin-1").strip()

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes that came at `now`; raise BadAnswer for what this reader does not know."""
        if self._part is _Part.HEAD:
            data = self._feed_head(self._rest + data)
        pieces: list[bytes] = []
        match self._part:
            case _Part.LENGTH:
                pieces.append(data[: self._left])
                self._left -= len(pieces[0])
                self._end_if(self._left == 0, data[len(pieces[0]) :])
            case _Part.SIZE | _Part.CHUNK:
                self._feed_chunks(data, pieces)
            case _Part.END:
                self._end_if(True, data)  # noqa: FBT003 - nothing may follow
        if self._stream:
            self._feed_events(self._tail + b"".join(pieces), now)
        else:
            self._pieces += pieces
        if self.complete and not self._stream:
            self.body = b"".join(self._pieces)

    def _feed_head(self, data: bytes) -> bytes:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            if len(data) > _HEAD_BYTES_MAX:
                raise BadAnswer("the head does not end")
            self._rest = data
            return b""
        if not head.startswith(b"HTTP/1.1 "):
            raise BadAnswer("not HTTP/1.1")
        self._rest = b""
        self.head = head
        self.status = int(head[9:12])
        self._stream = _EVENTS.search(head) is not None
        if length := _LENGTH.search(head):
            self._left = int(length[1])
            self._part = _Part.LENGTH
        elif _CHUNKED.search(head):
            self._part = _Part.SIZE
        else:
            raise BadAnswer("neither a length nor chunks")
        return rest

    def _feed_chunks(self, data: bytes, pieces: list[bytes]) -> None:
        at, data = 0, self._rest + data
        self._rest = b""
        while at < len(data):
            if self._part is _Part.CHUNK:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                # The line end after the chunk is counted in `left`, and may itself be cut.
                pieces.append(piece[: len(piece) - max(0, 2 - self._left)])
                if self._left:
                    return
                self._part = _Part.SIZE
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = data[at:]
                return
            size = int(data[at:end], 16)
            if size == 0:
                self._end_chunks(data[at:], b"0\r\n\r\n")
                return
            at = end + 2
            self._left = size + 2
            self._part = _Part.CHUNK

    def _end_chunks(self, data: bytes, end: bytes) -> None:
        if len(data) < len(end) and end.startswith(data):
            self._rest = data
            return
        if not data.startswith(end):
            raise BadAnswer("trailers")
        self._end_if(True, data[len(end) :])  # noqa: FBT003 - the last chunk is the end

    def _end_if(self, ended: bool, rest: bytes) -> None:  # noqa: FBT001 - reads as a sentence
        if rest:
            raise BadAnswer("bytes after the end")
        self.complete = ended
        if ended:
            self._part = _Part.END

    def _feed_events(self, data: bytes, now: float) -> None:
        *events, self._tail = data.split(b"\n\n")
        for event in events:
            if event == _DONE:
                self.done = True
            elif event.startswith(_ERROR):
                self.failed = True
            elif b"data: " in event:
                self.events += 1
                self.last_event = event
                self.last = now
                if self.first is None and self.events > self._skip:
                    self.first = now
        if self.complete and self._tail:
            raise BadAnswer("the stream ends inside an event")
