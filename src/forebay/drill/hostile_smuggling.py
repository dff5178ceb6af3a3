"""Requests that two parsers may read as one or as two.

In each, a second request lies where one reading sees a body, or garbage.  No reading of ours may
serve it: what is framed in two ways is refused and the connection closed (RFC 9112, 6.3).  The
second request carries an id, which would stand in the log of a server that served it.
"""

import random
from collections.abc import Iterator
from typing import Final

from forebay.drill.hostile_case import HOST

MARK: Final = "smuggled-"
"""The ids of second requests begin so."""

_PATH: Final = "/v1/completions"
_ENDS: Final = b"0\r\n\r\n"
_CODINGS: Final = (
    *("chunked, identity", "identity, chunked", "identity", "xchunked", "chunkedx", "gzip"),
    *(
        "chunked;q=1",
        "\x0bchunked",
        "\x0cchunked",
        '"chunked"',
        "chunked\x00",
        "chunked,",
        ",chunked",
    ),
    *("chunked, chunked", "chunk", "cow", "deflate, chunked"),
)
_LENGTHS: Final = (
    *("+0", "-0", "0x0", "0 0", "0,", ",0", "0, {n}", "{n}, 0", "0\x00", "0e0", "\xb9", "--1"),
    *("{n} ;", "18446744073709551616", "-{n}", "0b1", "1_0"),
)
_SIZES: Final = (
    *(b"0x0", b"-0", b"+0", b"10000000000000000", b"FFFFFFFFFFFFFFFFF", b"0\x00", b"g", b"", b" "),
    *(b"1\n", b"0\n\n", b"0 0", b"0,", b"1_0", b"\xb9"),
)


def inner(number: int) -> bytes:
    """Return the second request."""
    first = f"GET /{MARK}{number} HTTP/1.1\r\nHost: {HOST}"
    return f"{first}\r\nX-Request-ID: {MARK}{number}\r\n\r\n".encode()


def corpus(number: int) -> Iterator[tuple[str, bytes]]:
    """Yield every case there is: what is ambiguous in it, and the bytes."""
    second = inner(number)
    whole, late = len(second), _ENDS + second
    yield from _of_two_framings(second, late)
    for coding in _CODINGS:
        yield (
            f"length 0 and coding {coding!r}",
            _post(f"Content-Length: 0\r\nTransfer-Encoding: {coding}", late),
        )
    for length in _LENGTHS:
        head = f"Content-Length: {length.format(n=whole)}"
        yield f"length {length!r}", _post(head, second)
        yield f"length {whole} and {length!r}", _post(f"{head}\r\nContent-Length: {whole}", second)
    for size in _SIZES:
        yield f"chunk of size {size!r}", _post("Transfer-Encoding: chunked", size + b"\r\n" + late)
    yield from _of_lines(second, late)
    yield from _of_bodies(second)


def smuggled(draw: random.Random, number: int) -> tuple[str, bytes]:
    """Return one of the corpus."""
    return draw.choice(list(corpus(number)))


def _of_two_framings(second: bytes, late: bytes) -> Iterator[tuple[str, bytes]]:
    chunked, whole = "Transfer-Encoding: chunked", len(late)
    piece = b"%x\r\n%b\r\n0\r\n\r\n" % (len(second), second)
    yield "CL.TE", _post(f"Content-Length: {whole}\r\n{chunked}", late)
    yield "TE.CL", _post(f"{chunked}\r\nContent-Length: {len(b'%x' % len(second)) + 2}", piece)
    yield "CL.CL", _post(f"Content-Length: {len(second)}\r\nContent-Length: 0", second)
    yield "CL.CL reversed", _post(f"Content-Length: 0\r\nContent-Length: {len(second)}", second)
    yield "TE twice", _post(f"{chunked}\r\nTransfer-Encoding: identity\r\nContent-Length: 0", late)
    yield "HTTP/1.0 and TE", _post(f"{chunked}\r\nContent-Length: {whole}", late, version="1.0")
    yield "chunk longer than its size", _post(chunked, b"1\r\nxx\r\n" + late)
    yield "chunk without its end", _post(chunked, b"1\r\nx" + late)
    yield "chunk extension with a bare LF", _post(chunked, b"0;a\nb\r\n\r\n" + second)
    yield "no chunk before the end of lines", _post(chunked, b"\r\n" + late)


def _of_lines(second: bytes, late: bytes) -> Iterator[tuple[str, bytes]]:
    length = f"Content-Length: {len(late)}"
    for name, line in (
        ("a space before the colon", "Transfer-Encoding : chunked"),
        ("a tab before the colon", "Transfer-Encoding\t: chunked"),
        ("a fold", "X: y\r\n Transfer-Encoding: chunked"),
        ("a fold of the value", "Transfer-Encoding:\r\n chunked"),
        ("a bare CR", "X: y\rTransfer-Encoding: chunked"),
        ("a bare LF", "X: y\nTransfer-Encoding: chunked"),
        ("a NUL in the name", "Transfer-Encoding\x00: chunked"),
        ("a name after a NUL", "X: \x00\r\nTransfer-Encoding: chunked"),
        ("no name", ": x\r\nTransfer-Encoding: chunked"),
        ("no colon", "Transfer-Encoding chunked\r\nTransfer-Encoding: chunked"),
        ("an underscore", "Transfer_Encoding: chunked\r\nContent-Length: 0"),
    ):
        yield f"{name}, with a length", _post(f"{length}\r\n{line}", late)
    yield "length with a space before the colon", _post("Content-Length : 0", second)
    yield "length with a tab before the colon", _post("Content-Length\t: 0", second)
    yield (
        "two lengths by a bare LF",
        _post(f"Content-Length: 0\nContent-Length: {len(second)}", second),
    )


def _of_bodies(second: bytes) -> Iterator[tuple[str, bytes]]:
    length = f"Content-Length: {len(second)}"
    for method in ("GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "PUT", "BREW"):
        yield f"{method} with a body", _post(length, second, method=method, path="/livez")
    yield "a body for no path", _post(length, second, path="/nothing")
    yield "a body for a page", _post(length, second, path="/livez")
    yield "a body that nobody waited for", _post(f"{length}\r\nExpect: 100-continue", second)
    yield (
        "an offer of another protocol",
        _post(f"{length}\r\nConnection: Upgrade\r\nUpgrade: h2c", second),
    )
    yield "a body in another coding", _post(f"{length}\r\nContent-Encoding: gzip", second)


def _post(
    head: str, body: bytes, *, method: str = "POST", path: str = _PATH, version: str = "1.1"
) -> bytes:
    first = f"{method} {path} HTTP/{version}\r\nHost: {HOST}\r\nContent-Type: application/json"
    return f"{first}\r\n{head}\r\n\r\n".encode("latin-1") + body
