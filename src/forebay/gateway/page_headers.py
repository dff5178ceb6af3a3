"""What a browser may do with our pages for people: nothing but what they are made of.

Swagger UI begins with a script in the page itself; it is allowed by its hash, so no other is.
"""

import base64
import hashlib
import re
from typing import Final

from forebay.gateway.exchange import Header, Message, Send

_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_KEPT: Final[tuple[Header, ...]] = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'%b; style-src 'self' 'unsafe-inline'; img-src 'self'"
    b" data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Swagger UI sets styles on its elements, so styles may be inline; that runs nothing."""


def secured(send: Send) -> Send:
    """Return what sends a page with the headers that keep it to itself.

    A page's head waits for its body, which says what scripts are in it; files go on as they come.
    """
    held: list[Message] = []

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kinds = [value for name, value in message["headers"] if name == b"content-type"]
            message["headers"] = [*message["headers"], *_KEPT]
            if kinds and kinds[0].startswith(b"text/html"):
                held.append(message)
                return
            message["headers"].append((b"content-security-policy", _POLICY % b""))
        elif held:
            start = held.pop()
            policy = _POLICY % _hashes(message.get("body", b""))
            start["headers"].append((b"content-security-policy", policy))
            await send(start)
        await send(message)

    return sending


def _hashes(page: bytes) -> bytes:
    """Return the sources that allow the scripts in a page."""
    return b"".join(
        b" 'sha256-%b'" % base64.b64encode(hashlib.sha256(script).digest())
        for script in _SCRIPT.findall(page)
    )
