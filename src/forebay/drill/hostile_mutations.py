"""Ways to spoil the bytes of a sound HTTP request.  Each is drawn, so a seed makes it again."""

import random
from collections.abc import Callable
from typing import Final

Mutation = Callable[[random.Random, bytes], bytes]

_END: Final = b"\r\n\r\n"
_TOKENS: Final = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b"\t", b" ", b":", b"\xff\xfe", b"\xef\xbb\xbf", b"\x7f"),
    *(b"%00", b"%2f", b"%2e%2e/", b"//", b"..;/", b"?", b"#", b"@", b"*", b"\\", b"{", b"["),
    *(b'"', b"null", b"NaN", b"1e999", b"-1", b"\\ud800", b"\\u0000", b"9" * 40),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b"Expect: 100-continue\r\n"),
    *(b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Connection: close\r\n", b"0\r\n\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Range: bytes=0-,0-,0-\r\n", b"Trailer: x\r\n"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)
_LENGTHS: Final = (
    *(b"0", b"-1", b"+5", b"5, 6", b"5, 5", b"0x10", b" 7", b"7 ", b"1e3", b"07", b"\xb2"),
    *(b"18446744073709551616", b"9223372036854775807", b"99999999", b"", b"7\x00"),
)
_CODINGS: Final = (
    *(b"chunked", b"Chunked", b"chunked, chunked", b"identity", b"gzip, chunked"),
    *(b"chunked, identity", b"\x0bchunked", b"chunked\x00", b"xchunked", b"chunked;q=1", b""),
)
_SIZES: Final = (
    *(b"-1", b"0x5", b"5 ", b" 5", b"5;a=b", b"5;" + b"x" * 400, b"G", b"", b"00000005"),
    *(b"FFFFFFFFFFFFFFFF", b"10000000000000000", b"7fffffff", b"5\n", b"+5", b"\x00"),
)
_HOSTS: Final = (
    *(b"x/health?", b"x?/livez", b"x#/livez", b"a@b", b"x:99999", b"[::1", b"", b"\x00"),
    *(b"evil.example", b"127.0.0.1, evil", b"127.0.0.1:80:80", b"x" * 300, b"..;", b"%2f"),
)
_METHODS: Final = (
    *(b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"PUT", b"DELETE", b"PATCH", b"get"),
    *(b"PROPFIND", b"M-SEARCH", b"BREW", b"POST\t", b"", b"P\x00ST", b"X" * 200),
)
_TARGETS: Final = (
    *(b"*", b"/", b"//livez", b"/livez/", b"/LIVEZ", b"/livez%2f", b"/%6civez", b"/livez;x"),
    *(b"/..;/admin/ledger", b"/v1/../admin/ledger", b"/./livez", b"/livez?x=\xff", b"livez"),
    *(b"http://x/livez", b"http://x@y:z/livez", b"https://[::1/livez", b"/livez#x", b"?", b"#"),
    *(b"/v1/streams/" + b"A" * 3_000, b"/v1/models/%00", b"/v1/models/..%2f..%2fetc", b"\\livez"),
)
_VERSIONS: Final = (
    *(b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/1.1 ", b"http/1.1", b"", b"X/1"),
    b"HTTP/1.10",
)
_HEADERS_MANY: Final = 300
_HEADER_LONG: Final = 80_000
_CHUNK: Final = 6


def spoiled(draw: random.Random, whole: bytes) -> bytes:
    """Return a request after one to three mutations."""
    for mutation in draw.choices(MUTATIONS, k=draw.choice((1, 1, 2, 3))):
        whole = mutation(draw, whole)
    return whole


def flip(draw: random.Random, whole: bytes) -> bytes:
    """Change a few bytes."""
    found = bytearray(whole)
    for _ in range(draw.randint(1, 8) if found else 0):
        found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)


def cut(draw: random.Random, whole: bytes) -> bytes:
    """End anywhere."""
    return whole[: draw.randrange(len(whole) + 1)]


def drop(draw: random.Random, whole: bytes) -> bytes:
    """Leave a stretch out."""
    start = draw.randrange(len(whole) + 1)
    return whole[:start] + whole[start + draw.randint(1, 40) :]


def insert(draw: random.Random, whole: bytes) -> bytes:
    """Put something that means something, or nothing, anywhere."""
    at = draw.randrange(len(whole) + 1)
    more = draw.choice(_TOKENS) if draw.randrange(4) else draw.randbytes(draw.randint(1, 30))
    return whole[:at] + more + whole[at:]


def double_header(draw: random.Random, whole: bytes) -> bytes:
    """Say a header twice, once perhaps otherwise."""
    first, lines, body = _parts(whole)
    if not lines:
        return whole
    name, colon, value = draw.choice(lines).partition(b":")
    other = value if draw.randrange(2) else b" " + draw.choice((b"0", b"x", value[::-1]))
    lines.insert(draw.randrange(len(lines) + 1), name + colon + other)
    return _joined(first, lines, body)


def lie_about_length(draw: random.Random, whole: bytes) -> bytes:
    """Say another length than the body has."""
    _, _, body = _parts(whole)
    near = b"%d" % max(0, len(body) + draw.choice((-7, -1, 1, 7, 100_000)))
    return _with(whole, b"Content-Length", draw.choice((*_LENGTHS, near, near, near)))


def lie_about_coding(draw: random.Random, whole: bytes) -> bytes:
    """Say that the body is chunked, beside its length, in words that parsers read differently."""
    return _with(whole, b"Transfer-Encoding", draw.choice(_CODINGS), keep=True)


def chunk(draw: random.Random, whole: bytes) -> bytes:
    """Send the body in chunks: sound ones, many tiny ones, or with a size that is none."""
    first, lines, body = _parts(whole)
    lines = [line for line in lines if not line.lower().startswith(b"content-length")]
    lines.append(b"Transfer-Encoding: chunked")
    size = draw.choice((1, _CHUNK, 100, max(1, len(body))))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    if chunks and draw.randrange(2):
        at = draw.randrange(len(chunks))
        chunks[at] = draw.choice(_SIZES) + b"\r\n" + pieces[at] + b"\r\n"
    return _joined(
        first, lines, b"".join(chunks) + draw.choice((b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n"))
    )


def pipeline(draw: random.Random, whole: bytes) -> bytes:
    """Send more behind it: itself, itself many times, or garbage."""
    return whole + draw.choice(
        (whole, whole * draw.randint(2, 40), draw.randbytes(50), b"\r\n\r\n")
    )


def rename(draw: random.Random, whole: bytes) -> bytes:
    """Ask for something else in the first line: method, target or version."""
    first, lines, body = _parts(whole)
    words = [*first.split(b" "), b"", b""][:3]
    at = draw.randrange(3)
    words[at] = draw.choice((_METHODS, _TARGETS, _VERSIONS)[at])
    return _joined(b" ".join(words), lines, body)


def rehost(draw: random.Random, whole: bytes) -> bytes:
    """Name a host that would lead a server astray that puts its address together from it."""
    return _with(whole, b"Host", draw.choice(_HOSTS), keep=draw.randrange(3) == 0)


def swell(draw: random.Random, whole: bytes) -> bytes:
    """Send very many headers, or a very long one."""
    first, lines, body = _parts(whole)
    many = [b"x-%d: y" % at for at in range(_HEADERS_MANY)]
    lines += draw.choice((many, [b"x: " + b"y" * _HEADER_LONG], [b"y" * 3_000 + b": x"]))
    return _joined(first, lines, body)


def respace(draw: random.Random, whole: bytes) -> bytes:
    """Write the head as parsers are said to read it, too: bare LF, folds, spaces before colons."""
    head, end, body = whole.partition(_END)
    old, new = draw.choice(
        (
            (b"\r\n", b"\n"),
            (b"\r\n", b"\r"),
            (b": ", b" : "),
            (b": ", b":\r\n "),
            (b": ", b":\t"),
            (b"\r\n", b"\r\n "),
            (b": ", b":"),
            (b"-", b"_"),
        )
    )
    return head.replace(old, new, draw.choice((1, 2, 50))) + end + body


def ask_to_continue(_: random.Random, whole: bytes) -> bytes:
    """Ask to be told to go on, and go on without."""
    return _with(whole, b"Expect", b"100-continue", keep=True)


MUTATIONS: Final[tuple[Mutation, ...]] = (
    *(flip, cut, drop, insert, double_header, lie_about_length, lie_about_coding, chunk),
    *(pipeline, rename, rehost, swell, respace, ask_to_continue),
)


def _parts(whole: bytes) -> tuple[bytes, list[bytes], bytes]:
    head, _, body = whole.partition(_END)
    first, *lines = head.split(b"\r\n")
    return first, lines, body


def _joined(first: bytes, lines: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join([first, *lines]) + _END + body


def _with(whole: bytes, name: bytes, value: bytes, *, keep: bool = False) -> bytes:
    """Return a request with another value of a header; `keep` leaves the old one beside it."""
    first, lines, body = _parts(whole)
    if not keep:
        lines = [line for line in lines if line.partition(b":")[0].lower() != name.lower()]
    return _joined(first, [*lines, name + b": " + value], body)
