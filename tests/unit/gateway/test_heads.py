"""Parts of a request's head that two servers could read in two ways."""

import pytest

from forebay.core.errors import Invalid
from forebay.gateway.heads import check_coding, without_offer


def test_a_body_in_chunks_is_taken_in_http_1_1_only() -> None:
    check_coding(b"Chunked", "1.1")
    for coding, version in ((b"chunked", "1.0"), (b"gzip, chunked", "1.1"), (b"", "1.1")):
        with pytest.raises(Invalid, match="'chunked' only"):
            check_coding(coding, version)


def test_an_offer_of_another_protocol_is_hidden_in_the_head_and_nowhere_else() -> None:
    head = b"POST / HTTP/1.1\r\nUpgrade: h2c\r\nX-Upgrade: a\r\nA: upgrade: b"
    body = b"\r\nupgrade: c\r\n\r\nupgrade: d"
    hidden = b"POST / HTTP/1.1\r\nx-upgrade: h2c\r\nX-Upgrade: a\r\nA: upgrade: b"
    assert without_offer(head + b"\r\n\r\n" + body) == hidden + b"\r\n\r\n" + body
    assert without_offer(b"upGrade: h2c") == b"x-upgrade: h2c"
    assert without_offer(b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
