"""Our own tokens: what is made is taken, and nothing else is."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from forebay.accounts.config import AccountsAway
from forebay.accounts.token_config import TokensConfig
from forebay.accounts.tokens import InvalidToken, SigningKey, TokenFault, Tokens, check_shape
from tests.support.tokens import (
    KEY,
    NOW,
    FixedKeys,
    RevokedSet,
    claims,
    encoded,
    forged,
    header,
)

LEEWAY_S = TokensConfig().leeway_s


def tokens(
    keys: FixedKeys | None = None, revoked: RevokedSet | None = None, **config: Any
) -> Tokens:
    return Tokens(
        FixedKeys() if keys is None else keys,
        RevokedSet() if revoked is None else revoked,
        TokensConfig(**config),
    )


def fault(token: str, *, now: float = NOW, of: Tokens | None = None) -> TokenFault:
    with pytest.raises(InvalidToken) as caught:
        (of or tokens()).verify(token, now)
    assert str(caught.value) == "The token is not valid."
    return caught.value.fault


def said_in(token: str, number: int) -> Any:
    part = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(part + "=="))


def test_what_was_issued_is_taken_and_says_who_it_is() -> None:
    ours = tokens(ttl_s=600.0)
    issued = ours.issue("alice", NOW)
    found = ours.verify(issued.token, NOW + 1.0)
    assert (found.user, found.token_id) == ("alice", issued.token_id)
    assert (found.issued, found.expires) == (NOW, NOW + 600.0)
    assert issued.expires_in == 600


def test_a_token_says_all_that_rfc_9068_wants_and_which_key_signed_it() -> None:
    token = tokens().issue("alice", NOW).token
    assert said_in(token, 0) == {"alg": "HS256", "kid": "k1", "typ": "at+jwt"}
    assert set(said_in(token, 1)) == {"iss", "aud", "sub", "jti", "iat", "nbf", "exp"}


def test_another_library_verifies_it_with_the_same_key() -> None:
    token = tokens(ttl_s=600.0).issue("alice", time.time()).token
    found = jwt.decode(
        token, KEY.secret, algorithms=["HS256"], audience="forebay", issuer="forebay"
    )
    assert found["sub"] == "alice"


def test_no_two_tokens_have_one_id() -> None:
    ours = tokens()
    assert len({ours.issue("alice", NOW).token_id for _ in range(100)}) == 100


def test_no_token_outlives_the_key_that_signed_it() -> None:
    key = SigningKey(kid="k1", secret=KEY.secret, created=NOW - 10.0, retires=NOW + 30.5)
    issued = tokens(FixedKeys(key)).issue("alice", NOW)
    assert issued.expires_in == 30


def test_neither_tokens_nor_secrets_stand_in_a_repr() -> None:
    issued = tokens().issue("alice", NOW)
    assert issued.token not in repr(issued)
    assert "sss" not in repr(KEY)
    assert repr(b"s" * 32) not in repr(KEY)


def test_the_forger_of_these_tests_can_forge() -> None:
    assert tokens().verify(forged(header(), claims()), NOW).user == "alice"


@pytest.mark.parametrize(
    ("alg", "expected"),
    [
        ("none", TokenFault.ALGORITHM),
        ("None", TokenFault.ALGORITHM),
        ("", TokenFault.ALGORITHM),
        ("hs256", TokenFault.ALGORITHM),
        ("HS384", TokenFault.ALGORITHM),
        ("HS512", TokenFault.ALGORITHM),
        ("RS256", TokenFault.ALGORITHM),
        ("ES256", TokenFault.ALGORITHM),
        ("EdDSA", TokenFault.ALGORITHM),
        (None, TokenFault.HEADER),
        (256, TokenFault.HEADER),
        (["HS256"], TokenFault.HEADER),
    ],
)
def test_no_algorithm_but_the_keys_own_is_taken(alg: object, expected: TokenFault) -> None:
    head = header(alg=alg)
    assert fault(forged(head, claims())) is expected
    assert fault(f"{encoded(head)}.{encoded(claims())}.{encoded(b'x')}") is expected


def test_a_token_without_a_signature_is_not_taken() -> None:
    for alg in ("none", "HS256"):
        unsigned = f"{encoded(header(alg=alg))}.{encoded(claims())}."
        assert fault(unsigned) is TokenFault.MALFORMED


def test_the_right_algorithm_with_a_longer_hash_of_the_same_secret_is_not_taken() -> None:
    assert fault(forged(header(), claims(), digest="sha512")) is TokenFault.SIGNATURE


def test_a_public_key_that_is_taken_for_a_secret_signs_nothing() -> None:
    public = rsa.generate_private_key(public_exponent=65_537, key_size=2_048).public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert fault(forged(header(), claims(), secret=pem)) is TokenFault.SIGNATURE


@pytest.mark.parametrize(
    "more",
    [
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"jwk": {"kty": "oct", "k": "c3Nz"}},
        {"crit": ["exp"]},
        {"crit": [], "b64": False},
        {"b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
)
def test_a_header_that_wants_more_than_to_name_its_key_is_refused(more: dict[str, object]) -> None:
    assert fault(forged(header(**more), claims())) is TokenFault.HEADER


@pytest.mark.parametrize(
    "typ", ["JWT", "", "logout+jwt", "dpop+jwt", "at+jwt ", "application/json"]
)
def test_a_token_of_another_kind_is_not_taken(typ: str) -> None:
    assert fault(forged(header(typ=typ), claims())) is TokenFault.TYPE


def test_a_token_that_does_not_say_its_kind_is_not_taken() -> None:
    assert fault(forged(header(typ=None), claims())) is TokenFault.HEADER


@pytest.mark.parametrize(
    "kid",
    ["", "k2", "' OR 1=1 --", "../../dev/null", "/dev/null", "http://x/", "k1\x00", "%s", "\ud800"],
)
def test_a_kid_is_only_looked_up(kid: str) -> None:
    keys = FixedKeys()
    found = fault(forged(header(kid=kid), claims(), secret=b""), of=tokens(keys))
    assert found in {TokenFault.KEY, TokenFault.HEADER}
    assert keys.asked in ([], [kid])


@pytest.mark.parametrize("kid", [None, 1, ["k1"], {"$ne": 1}])
def test_a_kid_that_is_no_text_is_refused(kid: object) -> None:
    assert fault(forged(header(kid=kid), claims())) is TokenFault.HEADER


def test_a_long_kid_is_not_even_looked_up() -> None:
    keys = FixedKeys()
    assert fault(forged(header(kid="k" * 65), claims()), of=tokens(keys)) is TokenFault.KEY
    assert keys.asked == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "other"}, TokenFault.ISSUER),
        ({"iss": "Forebay"}, TokenFault.ISSUER),
        ({"iss": ["forebay"]}, TokenFault.CLAIMS),
        ({"aud": "other"}, TokenFault.AUDIENCE),
        ({"aud": ["forebay"]}, TokenFault.CLAIMS),
        ({"sub": ""}, TokenFault.CLAIMS),
        ({"sub": 7}, TokenFault.CLAIMS),
        ({"sub": "a" * 257}, TokenFault.CLAIMS),
        ({"jti": ""}, TokenFault.CLAIMS),
        ({"jti": "j" * 65}, TokenFault.CLAIMS),
        ({"exp": "never"}, TokenFault.CLAIMS),
        ({"exp": True}, TokenFault.CLAIMS),
        ({"iat": {}}, TokenFault.CLAIMS),
        ({"role": "admin"}, TokenFault.CLAIMS),
        *(({name: None}, TokenFault.CLAIMS) for name in claims()),
    ],
)
def test_a_claim_that_is_wrong_or_missing_is_refused(
    changes: dict[str, object], expected: TokenFault
) -> None:
    assert fault(forged(header(), claims(**changes))) is expected


@pytest.mark.parametrize("moment", [b"NaN", b"Infinity", b"1e999", b"-1e999"])
def test_no_moment_is_beyond_all_numbers(moment: bytes) -> None:
    text = json.dumps(claims(exp="EXP")).encode().replace(b'"EXP"', moment)
    assert fault(forged(header(), text)) in {TokenFault.CLAIMS, TokenFault.EXPIRED}


def test_a_token_ends_at_its_time_and_a_leeway() -> None:
    token = forged(header(), claims(exp=NOW + 600.0))
    assert tokens().verify(token, NOW + 600.0 + LEEWAY_S - 0.1).user == "alice"
    assert fault(token, now=NOW + 600.0 + LEEWAY_S) is TokenFault.EXPIRED


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_begins_at_its_time_less_a_leeway(claim: str) -> None:
    token = forged(header(), claims(**{claim: NOW + 100.0}))
    assert tokens().verify(token, NOW + 100.0 - LEEWAY_S).user == "alice"
    assert fault(token, now=NOW + 100.0 - LEEWAY_S - 0.1) is TokenFault.NOT_YET


def test_a_clock_that_is_an_hour_off_takes_no_token_and_makes_none_that_is_taken() -> None:
    ours = tokens(ttl_s=600.0)
    token = ours.issue("alice", NOW).token
    assert fault(token, now=NOW + 3_600.0, of=ours) is TokenFault.EXPIRED
    assert fault(token, now=NOW - 3_600.0, of=ours) is TokenFault.NOT_YET


def test_a_token_that_was_logged_out_is_not_taken() -> None:
    revoked = RevokedSet()
    ours = tokens(revoked=revoked)
    issued = ours.issue("alice", NOW)
    ours.verify(issued.token, NOW)
    revoked.add(issued.token_id)
    assert fault(issued.token, of=ours) is TokenFault.REVOKED


def test_a_megabyte_is_refused_before_anything_of_it_is_read() -> None:
    keys = FixedKeys()
    long = forged(header(), claims(sub="a" * 1_000_000))
    began = time.process_time()
    for _ in range(1_000):
        assert fault(long, of=tokens(keys)) is TokenFault.TOO_LONG
    assert time.process_time() - began < 1.0  # decoding one takes 10 ms, and this took 10
    assert keys.asked == []


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "a b.c.d",
        "a.b.c\n",
        "a.b.c=",
        "a.b.\x00",
        "ä.b.c",
        "a+.b/.c",
        "Bearer a.b.c",
        "\u0661.b.c",
    ],
)
def test_what_has_not_the_shape_of_a_token_is_refused(token: str) -> None:
    assert fault(token) is TokenFault.MALFORMED


@pytest.mark.parametrize(
    "head", [b"", b"\xff", b"[]", b"null", b"1", b"{", b'{"alg":"HS256"', b"[" * 400]
)
def test_a_header_that_is_no_object_is_refused(head: bytes) -> None:
    found = fault(forged(head, claims()))
    assert found in {TokenFault.HEADER, TokenFault.MALFORMED}


@pytest.mark.parametrize("said", [b"\xff", b"[]", b"null", b"{", b"[" * 400, b"\xef\xbb\xbf{}"])
def test_claims_that_are_no_object_are_refused(said: bytes) -> None:
    assert fault(forged(header(), said)) is TokenFault.CLAIMS


def test_where_the_keys_cannot_be_asked_nobody_is_called_invalid() -> None:
    keys = FixedKeys()
    keys.away = True
    with pytest.raises(AccountsAway):
        tokens(keys).verify(forged(header(), claims()), NOW)


@given(at=st.integers(0, 10_000), to=st.sampled_from("ABab01-_"))
def test_no_character_of_a_token_can_be_changed(at: int, to: str) -> None:
    token = forged(header(), claims())
    at %= len(token)
    if token[at] in {to, "."}:
        return
    changed = token[:at] + to + token[at + 1 :]
    with pytest.raises(InvalidToken):
        tokens().verify(changed, NOW)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_no_text_does_anything_but_be_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        tokens().verify(text, NOW)
    with pytest.raises(InvalidToken):
        tokens().verify(f"{encoded(text.encode('utf-8', 'replace'))}.{encoded(b'x')}.x", NOW)


def test_when_a_token_was_issued_is_said_to_the_millisecond() -> None:
    ours = tokens()
    issued = ours.issue("alice", NOW + 0.123_6)
    assert said_in(issued.token, 1)["iat"] == NOW + 0.124, "a password may be younger"
    assert ours.verify(issued.token, NOW + 1.0).issued == NOW + 0.124


@pytest.mark.parametrize("begins", ["iat", "nbf"])
def test_a_token_that_ends_before_it_begins_is_refused_also_within_the_leeway(begins: str) -> None:
    moments = {"iat": NOW, "nbf": NOW, "exp": NOW + 1.0} | {begins: NOW + 1.0}
    assert LEEWAY_S > 1.0
    assert fault(forged(header(), claims(**moments))) is TokenFault.CLAIMS


def test_the_shape_is_that_of_the_whole_text_and_its_length_is_bounded() -> None:
    check_shape("a.b.c", 5)
    for text, expected in (
        ("a.b.cd", TokenFault.TOO_LONG),
        ("a.b.", TokenFault.MALFORMED),
        ("a.b\n", TokenFault.MALFORMED),
    ):
        with pytest.raises(InvalidToken) as refused:
            check_shape(text, 5)
        assert refused.value.fault is expected
    for text in ("a.b.c\n", "a.b.c.d", "a.b.c ", " a.b.c"):
        with pytest.raises(InvalidToken) as refused:
            check_shape(text, 100)
        assert refused.value.fault is TokenFault.MALFORMED
