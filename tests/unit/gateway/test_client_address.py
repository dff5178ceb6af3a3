"""Who asked: what a header says of it counts only as far as trusted proxies wrote it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.gateway.client_address import (
    HOPS_MAX,
    LOCAL,
    TrustedProxies,
    client_address,
)

NOBODY = TrustedProxies()
PROXIES = TrustedProxies.parse("10.0.0.0/8, fd00::/8")
PROXY = ("10.0.0.1", 4_000)
STRANGER = ("203.0.113.9", 4_000)


def by(value: str, *, name: bytes = b"x-forwarded-for") -> dict[bytes, bytes]:
    return {name: value.encode("latin-1")}


def test_without_trusted_proxies_the_peer_asks_whatever_is_said() -> None:
    assert client_address(PROXY, by("198.51.100.1"), NOBODY) == "10.0.0.1"


def test_what_a_stranger_says_of_itself_counts_for_nothing() -> None:
    assert client_address(STRANGER, by("198.51.100.1"), PROXIES) == "203.0.113.9"


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("1.2.3.4, 198.51.100.1", "198.51.100.1"),  # the client wrote the first itself
        ("198.51.100.1, 10.0.0.7", "198.51.100.1"),
        ("198.51.100.1,10.0.0.7 ,\t10.9.9.9", "198.51.100.1"),
        ("10.0.0.9, 10.0.0.7", "10.0.0.9"),  # the farthest proxy asks for itself
        ("198.51.100.1:5123", "198.51.100.1"),
        ("[2001:db8::7]:5123", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("198.51.100.1, ::ffff:10.0.0.7", "198.51.100.1"),
        ("198.51.100.1, [fd00::1]:80", "198.51.100.1"),
    ],
)
def test_the_rightmost_address_that_is_no_trusted_proxy_asked(said: str, asked: str) -> None:
    assert client_address(PROXY, by(said), PROXIES) == asked


@pytest.mark.parametrize(
    "garbage",
    [
        *("", ",", "unknown", "_hidden", "198.51.100.1.5", "<script>", "١٢٧.0.0.1", "1" * 9_000),
        *("198.51.100.1 198.51.100.2", "0x7f.1", "010.0.0.1", "::1]:80", "127.0.0.1:999999"),
        *("\xff", "a:b:c"),
    ],
)
def test_behind_garbage_nothing_is_believed(garbage: str) -> None:
    said = f"198.51.100.1, {garbage}, 10.0.0.7".encode()
    assert client_address(PROXY, {b"x-forwarded-for": said}, PROXIES) == "10.0.0.7"


def test_a_long_header_is_read_from_its_end_only() -> None:
    long = "198.51.100.1, " + "10.0.0.2, " * 5_000 + "10.0.0.3"
    assert client_address(PROXY, by(long), PROXIES) == "10.0.0.2"
    assert (
        client_address(PROXY, by("1.1.1.1, " * 5_000 + "198.51.100.1"), PROXIES) == "198.51.100.1"
    )


def test_only_so_many_hops_are_followed() -> None:
    chain = ["198.51.100.1", *(f"10.0.0.{hop}" for hop in range(HOPS_MAX, 0, -1))]
    assert client_address(PROXY, by(", ".join(chain[1:])), PROXIES) == f"10.0.0.{HOPS_MAX}"
    assert client_address(PROXY, by(", ".join(chain)), PROXIES) == f"10.0.0.{HOPS_MAX}"


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ('for="[2001:db8::7]:4711";proto=https;by=203.0.113.43', "2001:db8::7"),
        ("for=1.2.3.4, For=198.51.100.1;proto=http, for=10.0.0.7", "198.51.100.1"),
        ("for=198.51.100.1, for=unknown", "10.0.0.1"),
        ("for=198.51.100.1, by=10.0.0.9", "10.0.0.1"),
        ("for=198.51.100.1;for=198.51.100.2", "10.0.0.1"),
        ('for="198.51.100.1', "10.0.0.1"),
    ],
)
def test_forwarded_is_read_the_same_way(said: str, asked: str) -> None:
    assert client_address(PROXY, by(said, name=b"forwarded"), PROXIES) == asked


def test_where_both_are_there_only_the_older_header_is_read() -> None:
    said = by("198.51.100.1") | by("for=198.51.100.2", name=b"forwarded")
    assert client_address(PROXY, said, PROXIES) == "198.51.100.1"


def test_a_unix_socket_has_no_address_and_is_trusted_only_by_name() -> None:
    said = by("198.51.100.1")
    assert client_address(None, said, PROXIES) == LOCAL
    assert client_address(None, said, TrustedProxies.parse("unix")) == "198.51.100.1"
    assert client_address(None, {}, TrustedProxies.parse("unix")) == LOCAL


def test_a_peer_is_counted_in_one_form() -> None:
    assert client_address(("::ffff:203.0.113.9", 1), {}, NOBODY) == "203.0.113.9"
    assert client_address(("fe80::1%eth0", 1), {}, NOBODY) == "fe80::1"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.org", "10.0.0.0/33", "*", "10.0.0.0/8;x"])
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no address or network") as caught:
        TrustedProxies.parse(f"192.0.2.1, {text}")
    assert str(caught.value).startswith(text)


def test_nothing_is_trusted_by_default() -> None:
    assert not TrustedProxies.parse(" , ")
    assert not NOBODY.holds("127.0.0.1")


@given(st.binary(max_size=300))
def test_whatever_is_sent_the_answer_is_an_address(value: bytes) -> None:
    found = client_address(PROXY, {b"x-forwarded-for": value}, PROXIES)
    assert TrustedProxies.parse(found).networks


def test_a_header_that_is_cut_makes_no_address_of_half_a_one() -> None:
    hops = b",".join([b"10.0.0.1".rjust(200)] * 20)
    kept = b"8.51.100.1,".ljust(4_096 - len(hops)) + hops
    assert client_address(PROXY, {b"x-forwarded-for": kept}, PROXIES) == "8.51.100.1"
    assert client_address(PROXY, {b"x-forwarded-for": b"19" + kept}, PROXIES) == "10.0.0.1"
