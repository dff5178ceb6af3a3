"""Sends hostile requests over many connections at once and keeps what is wrong with the answers.

Mutable state: the connections that are kept, the counts, and the first faults.
"""

import asyncio
import contextlib
import dataclasses
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from forebay.bench.client import Target
from forebay.drill.hostile_case import Case, Going
from forebay.drill.hostile_reply import Reply, Unreadable, faults, replies

_READ_BYTES: Final = 65_536
_PROXY_REFUSES: Final = "/admin/"
"""Below this path nginx answers itself, in the one shape that its file has."""
_SEEN_BYTES_MAX: Final = 4_194_304
_QUIET_S: Final = 0.3
"""Where nothing came for so long, more bytes are not what the server waits for."""
_ANSWER_S: Final = 60.0
"""The longest wait for the answer to a request that is whole."""
_MORE_S: Final = 0.005
"""How long a second answer may take to follow the first, where there must be none."""
_END_S_MAX: Final = 90.0
"""The longest time from closing our side to the server's closing its own."""
_KEPT_MAX: Final = 20
_SHOWN: Final = 400
_NOW: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was wrong, with all that is needed to see it again."""

    number: int
    kind: str
    what: str
    sent: str
    seen: str


class Sender:
    """Sends cases to one address."""

    def __init__(self, target: Target, *, proxied: bool = False, closed: bool = False) -> None:
        """`proxied`: nginx answers there; `closed`: the server asks for credentials."""
        self._target = target
        self._proxied = proxied
        self._closed = closed
        self.statuses: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.kept: list[Fault] = []

    @property
    def count(self) -> int:
        """Cases that were sent."""
        return self.sent.total()

    async def work(self, cases: Iterator[Case]) -> None:
        """Send cases one after another until there are no more; several may share an iterator."""
        line: _Line | None = None
        for case in cases:
            if line is None or not case.framed:
                if line is not None:
                    line.drop()
                line = await self._open()
            self.sent[case.kind] += 1
            if not await self._one(line, case):
                line.drop()
                line = None
        if line is not None:
            line.drop()

    async def _open(self) -> "_Line":
        reader, writer = await asyncio.open_connection(
            self._target.host, self._target.port, limit=_READ_BYTES
        )
        return _Line(reader, writer)

    async def _one(self, line: "_Line", case: Case) -> bool:
        """Send one case; return whether its connection can serve another."""
        try:
            found, whole = await line.ask(case)
        except Unreadable as words:
            self._note(case, f"not an answer: {words}", line.seen)
            return False
        except TimeoutError:
            self._note(case, "neither an answer nor an end", line.seen)
            return False
        for reply in found:
            self.statuses[f"{reply.status} (nginx)" if reply.proxys else str(reply.status)] += 1
        if not found:
            self.statuses["none"] += 1
        if self._proxied:  # what is one request to nginx, its log has to say
            refused = case.path is not None and case.path.startswith(_PROXY_REFUSES)
            path = None if refused else case.path
            case = dataclasses.replace(case, replies_max=None, path=path)
        for what in faults(case, found, closed=self._closed):
            self._note(case, what, line.seen)
        return case.framed and whole and bool(found) and not found[-1].closes

    def _note(self, case: Case, what: str, seen: bytes) -> None:
        self.wrong[what] += 1
        if len(self.kept) < _KEPT_MAX:
            self.kept.append(
                Fault(
                    number=case.number,
                    kind=case.kind,
                    what=what,
                    sent=case.sent[:_SHOWN].decode("latin-1"),
                    seen=seen[:_SHOWN].decode("latin-1"),
                )
            )


class _Line:
    """One connection.  Mutable state: what was read of the answers to the last case."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.seen = b""

    async def ask(self, case: Case) -> tuple[list[Reply], bool]:
        """Send a case; return the answers, and whether nothing of them is left over."""
        self.seen = b""
        self._writer.write(case.sent)
        if case.going is Going.RESET:
            await asyncio.sleep(0)
            return [], False
        if case.going is Going.HALF_CLOSE:
            self._half_close()
        headless = b"HEAD " in case.sent
        async with asyncio.timeout(_END_S_MAX):
            return await self._read(case, headless=headless)

    async def _read(self, case: Case, *, headless: bool) -> tuple[list[Reply], bool]:
        ended = case.going is Going.HALF_CLOSE
        wait_s = _ANSWER_S if case.framed else _QUIET_S
        while len(self.seen) < _SEEN_BYTES_MAX:
            more = await self._more(None if ended else wait_s)
            if more is None:  # it waits for us
                if wait_s == _MORE_S:
                    break
                self._half_close()
                ended = True
                continue
            if not more:
                break
            self.seen += more
            found, rest = replies(self.seen, headless=headless)
            if found and not rest and not ended:
                if case.framed:
                    return found, True
                wait_s = _MORE_S
        found, rest = replies(self.seen, headless=headless)
        return found, not rest

    async def _more(self, wait_s: float | None) -> bytes | None:
        """Return what came, nothing at the end, or None if nothing came in time."""
        try:
            async with asyncio.timeout(wait_s):
                return await self._reader.read(_READ_BYTES)
        except TimeoutError:
            if wait_s is None:
                raise  # it is not our patience that is over
            return None
        except OSError:
            return b""

    def _half_close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()

    def drop(self) -> None:
        """Close at once, so that no port stays taken for a minute."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
        self._writer.transport.abort()
