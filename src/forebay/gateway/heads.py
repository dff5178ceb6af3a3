"""What a request's head must be, beyond what the parser sees to.

The parser (llhttp) refuses most of what two servers could read in two ways.  What it lets through
and others may not is refused here: `Host` that is missing, doubled or no host; a target that names
another; a coding other than `chunked`; versions that it only knows by name.
"""

import re
from http import HTTPStatus
from typing import Final, Self

from forebay.core.errors import Invalid, ServingError
from forebay.gateway import problems
from forebay.gateway.config import GatewayConfig
from forebay.gateway.exchange import Header

_HOST: Final = re.compile(
    rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::([0-9]{0,5}))?", re.ASCII
)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(/[^#]*)?(\?[^#]*)?", re.IGNORECASE)
_VERSIONS: Final = ("1.1", "1.0")

_OFFER: Final = re.compile(rb"(\r\n|^)upgrade:", re.IGNORECASE)
LINE_BYTES: Final = 4
"""Of a header, beside its name and value."""

NOT_HTTP: Final = Invalid("This is not a valid HTTP request.")
WRONG_HOST: Final = 421
"""Misdirected Request: this server does not answer to that name."""


class Hosts:
    """The names by which clients may call this server; none: any."""

    __slots__ = ("_names",)

    def __init__(self, names: frozenset[bytes] = frozenset()) -> None:
        """Answer to these, in lower case."""
        self._names = names

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `api.example.org, [::1], 10.0.0.7`; raises ValueError that names what is no host."""
        words = [word.strip() for word in text.split(",") if word.strip()]
        for word in words:
            match = _HOST.fullmatch(word.encode())
            if match is None or match[2] is not None:
                raise ValueError(
                    f"{word[:60]} is no host name; write it without scheme, port, path or stars,"
                    " as in api.example.org, 10.0.0.7 or [::1]"
                )
        return cls(frozenset(word.lower().encode() for word in words))

    def __bool__(self) -> bool:
        """Whether only some names are answered to."""
        return bool(self._names)

    def check(self, host: bytes) -> None:
        """Raise Invalid if a `Host` is no host (400), or not one of these (421)."""
        match = _HOST.fullmatch(host)
        if match is None:
            raise Invalid("The header Host must be a host's name, and its port if it has one.")
        if self._names and match[1].lower().rstrip(b".") not in self._names:
            raise Invalid("This server does not answer to that Host.", status=WRONG_HOST)


def check_host(host: bytes | None, version: str, hosts: Hosts) -> None:
    """Raise Invalid unless a request says in one way whom it asks, as its version wants it."""
    if version not in _VERSIONS:
        raise Invalid("This server speaks HTTP/1.1 and HTTP/1.0 only.", status=505)
    if host is not None:
        hosts.check(host)
    elif version == "1.1":
        raise Invalid("An HTTP/1.1 request needs the header Host.")
    elif hosts:
        raise Invalid("This server answers to those only who name it in Host.", status=WRONG_HOST)


def check_coding(coding: bytes, version: str) -> None:
    """Raise Invalid unless a body's transfer coding is the one that all understand alike."""
    if version != "1.1" or coding.lower() != b"chunked":
        raise Invalid("Of Transfer-Encoding this server takes 'chunked' only, in HTTP/1.1.")


def check_size(url: bytes, headers: list[Header], config: GatewayConfig) -> None:
    """Raise Invalid if a head that has come whole is larger than one may be."""
    if len(headers) > config.headers_max:
        raise Invalid(f"The request has more than {config.headers_max} headers.", status=431)
    size = len(url) + sum(len(name) + len(value) + LINE_BYTES for name, value in headers)
    if size > config.head_bytes_max:
        raise head_too_large(config.head_bytes_max)


def head_too_large(bytes_max: int) -> Invalid:
    """Return the refusal of a head larger than that."""
    return Invalid(f"The request's head is larger than {bytes_max} bytes.", status=431)


def split(url: bytes, host: bytes | None, bytes_max: int) -> tuple[bytes, bytes]:
    """Return a target's path and query; raises Invalid.

    A target that names its host (as proxies are asked) must name the one in `Host`: were they
    different, somebody before us may have read the other.
    """
    if len(url) > bytes_max:
        raise Invalid(f"The request's target is longer than {bytes_max} bytes.", status=414)
    if not url.startswith(b"/") and url != b"*":
        match = _ABSOLUTE.fullmatch(url)
        if match is None or host is None or match[1].lower() != host.lower():
            raise Invalid("A target must be a path, or name the host that the header Host names.")
        url = (match[2] or b"/") + (match[3] or b"")
    if b"#" in url:
        raise Invalid("A target has no fragment: leave out '#' and what follows.")
    path, _, query = url.partition(b"?")
    return path, query


def without_offer(data: bytes) -> bytes:
    """Hide an offer of another protocol, such as Java's clients make of HTTP/2.

    A server may pass it over; the parser would take the body for the other protocol's bytes.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(rb"\1x-upgrade:", head) + end + rest


def refusal(error: ServingError) -> bytes:
    """Return a whole answer to what is not served, in OpenAI's shape; the connection ends."""
    body = problems.openai_body(error)
    lines = b"".join(b"%b: %b\r\n" % header for header in problems.headers(error))
    status, phrase = error.status, HTTPStatus(error.status).phrase.encode()
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n%b"
        b"content-length: %d\r\nconnection: close\r\n\r\n%b"
    ) % (status, phrase, lines, len(body), body)
