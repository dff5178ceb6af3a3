"""Where an Alertmanager delivers in a drill: a mail server and a web server that keep it all.

They speak what a real Alertmanager speaks to Slack, to PagerDuty (events v2), to a webhook, and
to a mail server, and answer as those do.  Nothing leaves the machine.
"""

import asyncio
import contextlib
import email
import email.policy
import enum
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

_BODY_BYTES_MAX: Final = 4_194_304
_NOTICES_MAX: Final = 10_000


class Channel(enum.StrEnum):
    """How somebody is told."""

    MAIL = "mail"
    SLACK = "slack"
    PAGERDUTY = "pagerduty"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message as it was delivered."""

    channel: Channel
    at: float
    """When it came, by the monotonic clock."""
    firing: bool
    """It tells of a fault, rather than of its end."""
    text: str
    """All of it: head and body."""

    def says(self, alert: str) -> bool | None:
        """Return whether it says that an alert fires, or that it is over; None: neither.

        A message may tell of several alerts, some of which are over. One that does not link an
        alert's runbook does not tell of it.
        """
        if f"/runbooks/{alert}.md" not in self.text:
            return None
        found = re.findall(rf"\b{alert}\b\*?(?: \(\w+\),)? (firing|resolved)", self.text)
        return "firing" in found if found else self.firing


class Sinks:
    """A mail server and a web server on ports of their own.  Mutable state: what was delivered."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.notices: list[Notice] = []
        self.mail_port = 0
        self.web_port = 0

    def first(self, alert: str, channel: Channel, *, firing: bool, after: float) -> Notice | None:
        """Return the first message on a channel about an alert since a moment."""
        for notice in self.notices:
            wanted = notice.at >= after and notice.channel is channel
            if wanted and notice.says(alert) is firing:
                return notice
        return None

    def keep(self, channel: Channel, text: str, *, firing: bool) -> None:
        """Keep a message."""
        if len(self.notices) < _NOTICES_MAX:
            self.notices.append(
                Notice(channel=channel, at=time.monotonic(), firing=firing, text=text)
            )

    async def web(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of HTTP: one POST after another."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = (line.lower().partition(": ") for line in head[1:])
                length = int({name: value for name, _, value in pairs}["content-length"])
                body = await reader.readexactly(min(length, _BODY_BYTES_MAX))
                status = self._take(head[0].split(" ")[1], json.loads(body))
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
                await writer.drain()

    def _take(self, path: str, wish: "dict[str, object]") -> str:
        text = json.dumps(wish)
        match path.strip("/"):
            case Channel.SLACK:
                self.keep(Channel.SLACK, text, firing="[FIRING" in text.upper())
            case Channel.PAGERDUTY:
                self.keep(Channel.PAGERDUTY, text, firing=wish["event_action"] == "trigger")
                return "202 Accepted"
            case Channel.WEBHOOK:
                self.keep(Channel.WEBHOOK, text, firing=wish["status"] == "firing")
            case _:
                return "404 Not Found"
        return "200 OK"

    async def mail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of SMTP (RFC 5321): as much as delivering takes."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            writer.write(b"220 drill ESMTP\r\n")
            while verb := (await reader.readline())[:4].upper():
                match verb:
                    case b"EHLO":
                        writer.write(b"250-drill\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n")
                    case b"AUTH":
                        writer.write(b"235 welcome\r\n")
                    case b"DATA":
                        writer.write(b"354 go on\r\n")
                        self._read(await reader.readuntil(b"\r\n.\r\n"))
                        writer.write(b"250 kept\r\n")
                    case b"QUIT":
                        writer.write(b"221 bye\r\n")
                        return
                    case _:
                        writer.write(b"250 yes\r\n")

    def _read(self, wire: bytes) -> None:
        message = email.message_from_bytes(wire[:-5], policy=email.policy.default)
        body = message.get_body(preferencelist=("plain", "html"))
        content = body.get_content() if body is not None else ""
        subject = str(message["subject"])
        self.keep(Channel.MAIL, f"{subject}\n{content}", firing="[FIRING" in subject.upper())


def named(channels: Sequence[Channel]) -> str:
    """Return channels in words."""
    return ", ".join(sorted(channels))


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Sinks]:
    """Run both servers until the body ends."""
    sinks, limit = Sinks(), _BODY_BYTES_MAX
    web = await asyncio.start_server(sinks.web, "127.0.0.1", 0, limit=limit)
    mail = await asyncio.start_server(sinks.mail, "127.0.0.1", 0, limit=limit)
    async with web, mail:
        sinks.web_port = web.sockets[0].getsockname()[1]
        sinks.mail_port = mail.sockets[0].getsockname()[1]
        yield sinks
