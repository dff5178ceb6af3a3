"""Whose web pages may call this server from a browser (CORS).  By default nobody's.

Credentials are keys in headers, never cookies, so `Access-Control-Allow-Credentials` is not said:
a browser sends on a page's behalf only what the page itself knows.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Self

from forebay.core.errors import Forbidden
from forebay.gateway.exchange import Header

PREFLIGHT: Final = "OPTIONS"

_ORIGIN: Final = re.compile(
    r"https?://(?:\[[0-9a-f:.]{2,45}\]|[a-z0-9.-]{1,253})(?::[0-9]{1,5})?", re.ASCII
)
_OWN: Final = re.compile(rb"https?://(?:localhost|127\.[0-9.]{5,11}|\[::1\])(?::[0-9]{1,5})?")
"""Pages of this machine."""
_FOREIGN: Final = (
    "A web page of another origin sent this, and in open mode none may. Name it in"
    " gateway.cors_origins, or serve with access.mode=closed."
)
_EXPOSED: Final = (
    b"deprecation, idempotent-replayed, ratelimit, ratelimit-policy, retry-after, retry-after-ms,"
    b" x-forebay-cache, x-forebay-degraded, x-forebay-stream, x-forebay-ticket, x-forebay-warning,"
    b" x-ratelimit-limit-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-requests,"
    b" x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, x-ratelimit-reset-tokens,"
    b" x-request-id, x-should-retry"
)
_HEADERS: Final = frozenset(
    {
        *(b"accept", b"authorization", b"cache-control", b"content-type", b"idempotency-key"),
        *(b"last-event-id", b"openai-organization", b"openai-project", b"x-api-key"),
        *(b"x-priority", b"x-request-deadline-ms", b"x-request-id", b"x-request-timeout"),
    }
)
_HEADER_BEGINNINGS: Final = (b"x-forebay-", b"x-stainless-")
"""Ours, and those in which OpenAI's clients say what they are."""
_AGE_S: Final = b"600"
"""How long a browser need not ask again; Chromium keeps an answer for two hours at most."""
_VARY: Final = (b"vary", b"origin")
_VARY_PREFLIGHT: Final = (
    b"vary",
    b"access-control-request-method, access-control-request-headers",
)


class Cors:
    """The origins that are let in, and what their browsers are told."""

    __slots__ = ("_headers", "_origins")

    def __init__(self, origins: Iterable[bytes] = (), api_key_header: str = "x-api-key") -> None:
        """Let these in, letter by letter."""
        self._origins = {
            origin: (
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED),
                _VARY,
            )
            for origin in origins
        }
        self._headers = _HEADERS | {api_key_header.lower().encode()}

    @classmethod
    def parse(cls, text: str, api_key_header: str = "x-api-key") -> Self:
        """Read `https://a.example, http://localhost:3000`; raises ValueError that names one."""
        words = [word.strip() for word in text.split(",") if word.strip()]
        for word in words:
            if _ORIGIN.fullmatch(word) is None:
                raise ValueError(
                    f"{word[:60]} is no origin; write each as a browser sends it, in lower case and"
                    " without a path or stars, as in https://chat.example.org"
                )
        return cls((word.encode() for word in words), api_key_header)

    def __bool__(self) -> bool:
        """Whether any origin is let in."""
        return bool(self._origins)

    def headers(self, page: bytes) -> tuple[Header, ...]:
        """Return what an answer says to a page of this origin."""
        return self._origins.get(page, (_VARY,))

    def check(self, page: bytes) -> None:
        """Raise Forbidden for a page that is neither let in nor of this machine.

        For servers that ask nobody who they are: a browser sends some requests without asking
        first, and a page whose name was made to lead here (DNS rebinding) sends any.
        """
        if page not in self._origins and _OWN.fullmatch(page) is None:
            raise Forbidden(_FOREIGN)

    def preflight(
        self, headers: Mapping[bytes, bytes], methods: Iterable[str]
    ) -> tuple[Header, ...] | None:
        """Return what more to tell a browser that asks first, of a route that takes `methods`.

        None: nobody asked so, or no origin is let in.  Raises Forbidden with what is not allowed.
        """
        method = headers.get(b"access-control-request-method")
        if not self._origins or method is None or b"origin" not in headers:
            return None
        if headers[b"origin"] not in self._origins:
            raise Forbidden("Pages of this origin may not call this server: gateway.cors_origins.")
        allowed = tuple(methods)
        if method.decode("latin-1") not in allowed:
            raise Forbidden("Pages may not use this method here.")
        asked = headers.get(b"access-control-request-headers", b"").lower()
        names = [name for each in asked.split(b",") if (name := each.strip())]
        if not all(name in self._headers or name.startswith(_HEADER_BEGINNINGS) for name in names):
            raise Forbidden("Pages may not send one of these headers.")
        return (
            (b"access-control-allow-methods", ", ".join(allowed).encode()),
            (b"access-control-allow-headers", b", ".join(names)),
            (b"access-control-max-age", _AGE_S),
            _VARY_PREFLIGHT,
        )
