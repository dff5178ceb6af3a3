"""Tokens of another issuer, against a real server of keys that can lie, hang and turn them."""

import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import RSAAlgorithm

from forebay.accounts.bearers import Bearers
from forebay.accounts.token_config import TokensConfig
from forebay.accounts.tokens import InvalidToken, TokenFault, Tokens
from forebay.core.caller import Role
from tests.support.issuer_sites import AUDIENCE, Site, said
from tests.support.issuers import EC, ED, OTHER_RSA, RSA, Issuer, issuing, jwk, symmetric
from tests.support.tokens import NOW, FixedKeys, RevokedSet, encoded


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as found:
        yield found


def test_a_token_of_the_issuer_is_taken_and_its_user_is_none_of_ours(issuer: Issuer) -> None:
    found = Site(issuer).verify(issuer.sign(said()))
    assert (found.user, found.tenant, found.role) == ("oidc:alice", "oidc", Role.USER)
    assert (found.token_id, found.issued, found.expires) == ("j1", NOW, NOW + 600.0)


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [
        (RSA, "r1", "RS256"),
        (RSA, "r1", "PS256"),
        (RSA, "r1", "RS512"),
        (EC, "e1", "ES256"),
        (ED, "d1", "EdDSA"),
    ],
)
def test_every_kind_of_signature_that_is_allowed_is_verified(
    issuer: Issuer, key: Any, kid: str, algorithm: str
) -> None:
    issuer.keys.append(jwk(ED, "d1"))
    site = Site(issuer, algorithms=algorithm)
    assert site.verify(issuer.sign(said(), key, kid=kid, alg=algorithm)).user == "oidc:alice"


def test_a_signature_that_is_not_allowed_is_not_taken_though_it_is_right(issuer: Issuer) -> None:
    site = Site(issuer, algorithms="ES256")
    assert site.fault(issuer.sign(said())) is TokenFault.ALGORITHM
    site = Site(issuer, algorithms="RS256,ES256")
    assert site.fault(issuer.sign(said(), alg="PS256")) is TokenFault.ALGORITHM


def test_a_key_is_for_what_it_says_and_for_what_its_kind_can(issuer: Issuer) -> None:
    issuer.keys = [jwk(RSA, "r1", alg="PS256"), jwk(EC, "e1")]
    site = Site(issuer, algorithms="RS256,PS256,ES256")
    assert site.fault(issuer.sign(said(), alg="RS256")) is TokenFault.ALGORITHM
    assert site.fault(issuer.sign(said(), kid="e1", alg="RS256")) is TokenFault.ALGORITHM
    assert site.verify(issuer.sign(said(), alg="PS256")).user == "oidc:alice"


def forged_with(secret: bytes, alg: str = "HS256") -> str:
    text = f"{encoded({'alg': alg, 'kid': 'r1', 'typ': 'JWT'})}.{encoded(said())}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def test_a_public_key_is_never_taken_for_a_secret(issuer: Issuer) -> None:
    site = Site(issuer)
    public = RSA.public_key()
    encodings = [
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.PEM, serialization.PublicFormat.PKCS1),
    ]
    secrets = [public.public_bytes(encoding, form) for encoding, form in encodings]
    for secret in [*secrets, secrets[0].strip(), json.dumps(issuer.keys[0]).encode(), b""]:
        for alg in ("HS256", "RS256", "none"):
            assert site.fault(forged_with(secret, alg)) in {
                TokenFault.ALGORITHM,
                TokenFault.SIGNATURE,
            }


def test_a_secret_among_the_keys_is_not_used_even_if_an_operator_allowed_it(
    issuer: Issuer,
) -> None:
    issuer.keys = [symmetric("r1", b"s" * 32), jwk(EC, "e1")]
    site = Site(issuer, algorithms="HS256,ES256")
    assert site.fault(forged_with(b"s" * 32)) is TokenFault.KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"alg": "RSA-OAEP"},
        {"alg": 7},
        {"d": "AQAB"},
        {"kty": "oct"},
        {"kty": ["RSA"]},
        {"crv": "P-256"},
        {"n": "AQAB"},
        {"n": "!"},
        {"n": None},
        {"e": 7},
        {"kid": None},
        {"kid": ""},
        {"kid": 7},
        {"kid": "k" * 257},
    ],
)
def test_a_key_that_is_not_for_signatures_or_not_sound_is_not_used(
    issuer: Issuer, changes: dict[str, Any]
) -> None:
    facts = jwk(RSA, "r1") | changes
    issuer.keys = [{name: each for name, each in facts.items() if each is not None}, jwk(EC, "e1")]
    assert Site(issuer).fault(issuer.sign(said())) is TokenFault.KEY


def test_a_weak_key_is_not_used(issuer: Issuer) -> None:
    weak = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505 - it is to be refused
    issuer.keys = [
        jwk(weak, "r1"),
        jwk(ec.generate_private_key(ec.SECP256K1()), "k1"),
        jwk(EC, "e"),
    ]
    site = Site(issuer)
    assert site.fault(issuer.sign(said(), OTHER_RSA)) is TokenFault.KEY
    assert site.fault(issuer.sign(said(), OTHER_RSA, kid="k1")) is TokenFault.KEY


def test_a_private_key_that_an_issuer_let_slip_is_not_used(issuer: Issuer) -> None:
    issuer.keys = [dict(RSAAlgorithm.to_jwk(RSA, as_dict=True)) | {"kid": "r1"}, jwk(EC, "e1")]
    issuer.keys[0].pop("key_ops")
    assert Site(issuer).fault(issuer.sign(said())) is TokenFault.KEY


def test_another_key_under_the_same_name_signs_nothing(issuer: Issuer) -> None:
    assert Site(issuer).fault(issuer.sign(said(), OTHER_RSA)) is TokenFault.SIGNATURE


def test_a_key_in_the_token_is_not_used_and_its_addresses_are_not_asked(issuer: Issuer) -> None:
    site = Site(issuer)
    own = jwk(OTHER_RSA, "r1")
    here = f"http://127.0.0.1:{issuer.port}/evil"
    forged = issuer.sign(said(), OTHER_RSA, jwk=own, jku=here, x5u=here, x5c=["MIIB"])
    assert site.fault(forged) is TokenFault.SIGNATURE
    assert site.verify(issuer.sign(said(), jku=here)).user == "oidc:alice"
    assert issuer.fetches == 1


@pytest.mark.parametrize("more", [{"crit": ["x"], "x": 1}, {"crit": []}, {"zip": "DEF"}])
def test_a_header_that_must_be_understood_is_refused(issuer: Issuer, more: dict[str, Any]) -> None:
    head = {"alg": "RS256", "kid": "r1", **more}
    token = f"{encoded(head)}.{encoded(said())}.{encoded(b'x')}"
    assert Site(issuer).fault(token) is TokenFault.HEADER


@pytest.mark.parametrize(
    ("typ", "taken"),
    [
        ("JWT", True),
        ("at+jwt", True),
        ("application/at+jwt", True),
        ("AT+JWT", True),
        ("logout+jwt", False),
        ("dpop+jwt", False),
        ("id", False),
    ],
)
def test_only_kinds_that_are_wanted_are_taken(issuer: Issuer, typ: str, taken: bool) -> None:
    token = issuer.sign(said(), typ=typ)
    if taken:
        assert Site(issuer).verify(token).user == "oidc:alice"
    else:
        assert Site(issuer).fault(token) is TokenFault.TYPE


def test_where_only_access_tokens_are_wanted_an_id_token_is_none(issuer: Issuer) -> None:
    site = Site(issuer, types="at+jwt")
    assert site.fault(issuer.sign(said())) is TokenFault.TYPE
    assert site.verify(issuer.sign(said(), typ="at+jwt")).user == "oidc:alice"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "https://id.example/realm/"}, TokenFault.ISSUER),
        ({"iss": None}, TokenFault.ISSUER),
        ({"aud": "another"}, TokenFault.AUDIENCE),
        ({"aud": ["a", "b"]}, TokenFault.AUDIENCE),
        ({"aud": []}, TokenFault.AUDIENCE),
        ({"aud": None}, TokenFault.AUDIENCE),
        ({"sub": None}, TokenFault.CLAIMS),
        ({"sub": ""}, TokenFault.CLAIMS),
        ({"sub": "a b"}, TokenFault.CLAIMS),
        ({"sub": "oidc:alice"}, TokenFault.CLAIMS),
        ({"sub": "a" * 200}, TokenFault.CLAIMS),
        ({"exp": None}, TokenFault.CLAIMS),
        ({"exp": False}, TokenFault.CLAIMS),
        ({"iat": None}, TokenFault.CLAIMS),
        ({"nbf": []}, TokenFault.CLAIMS),
        ({"jti": "j" * 300}, TokenFault.CLAIMS),
        ({"cnf": {"jkt": "x"}}, TokenFault.CLAIMS),
        ({"events": {}}, TokenFault.CLAIMS),
        ({"exp": NOW - 31.0}, TokenFault.EXPIRED),
        ({"nbf": NOW + 31.0}, TokenFault.NOT_YET),
        ({"iat": NOW + 31.0}, TokenFault.NOT_YET),
    ],
)
def test_a_claim_that_is_wrong_or_missing_is_refused(
    issuer: Issuer, changes: dict[str, Any], expected: TokenFault
) -> None:
    token = issuer.sign(said())  # whatever PyJWT would not sign is signed by hand below
    text = f"{token.split('.')[0]}.{encoded(said(**changes))}"
    signer = jwt_signer()
    assert Site(issuer).fault(f"{text}.{encoded(signer(text.encode()))}") is expected


def jwt_signer() -> Callable[[bytes], bytes]:
    return lambda text: RSAAlgorithm(RSAAlgorithm.SHA256).sign(text, RSA)


def test_one_of_several_audiences_and_no_jti_are_enough(issuer: Issuer) -> None:
    token = issuer.sign(said(aud=["other", AUDIENCE], jti=None))
    assert Site(issuer).verify(token).token_id == ""


@pytest.mark.parametrize(
    ("claim", "said_roles", "role"),
    [
        ("groups", {"groups": ["x", "ops"]}, Role.OPERATOR),
        ("groups", {"groups": ["ops", "llm admins"]}, Role.ADMIN),
        ("scope", {"scope": "openid ops"}, Role.OPERATOR),
        ("realm_access.roles", {"realm_access": {"roles": ["ops"]}}, Role.OPERATOR),
        ("https://x.example/roles", {"https://x.example/roles": ["ops"]}, Role.OPERATOR),
        ("groups", {"groups": ["Ops"]}, None),
        ("groups", {"groups": []}, None),
        ("groups", {}, None),
        ("groups", {"groups": {"ops": True}}, None),
        ("groups", {"groups": [["ops"]]}, None),
        ("realm_access.roles", {"realm_access": "ops"}, None),
    ],
)
def test_a_role_is_what_the_map_says_and_nobody_without_one_is_let_in(
    issuer: Issuer, claim: str, said_roles: dict[str, Any], role: Role | None
) -> None:
    site = Site(issuer, role_claim=claim, roles="llm admins=admin, ops=operator")
    token = issuer.sign(said(**said_roles))
    if role is None:
        assert site.fault(token) is TokenFault.ROLE
    else:
        assert site.verify(token).role is role


def test_user_and_tenant_come_from_the_claims_that_are_named(issuer: Issuer) -> None:
    site = Site(issuer, user_claim="email", tenant_claim="org", tenant="guests")
    found = site.verify(issuer.sign(said(email="a.b+c@x.example", org="acme")))
    assert (found.user, found.tenant) == ("oidc:a.b+c@x.example", "acme")
    assert site.verify(issuer.sign(said(email="a"))).tenant == "guests"
    for org in ("anonymous", "a/b", 7, ["acme"]):
        assert site.fault(issuer.sign(said(email="a", org=org))) is TokenFault.CLAIMS


def test_each_token_goes_to_its_own_issuer_and_to_no_other(issuer: Issuer) -> None:
    ours = Tokens(FixedKeys(), RevokedSet(), TokensConfig())
    site = Site(issuer)
    bearers = Bearers(ours, site.oidc)
    assert bearers.verify(issuer.sign(said()), NOW).user == "oidc:alice"
    assert bearers.verify(ours.issue("bob", NOW).token, NOW).user == "bob"
    for claims in (said(iss="forebay", aud="forebay"), said(iss="other"), said(iss=None)):
        with pytest.raises(InvalidToken):
            bearers.verify(issuer.sign(claims), NOW)
    for text in ("", "a.b.c", "x" * 10_000, f"{encoded({})}.{encoded([])}.{encoded(b'x')}"):
        with pytest.raises(InvalidToken):
            bearers.verify(text, NOW)
    assert sum(bearers.refused.values()) == 7
    assert bearers.refused[TokenFault.TOO_LONG] == 1
    with pytest.raises(InvalidToken):
        Bearers(ours).verify(issuer.sign(said()), NOW)


@pytest.mark.parametrize("audience", [f"{AUDIENCE}-eu", f"x{AUDIENCE}", f"a {AUDIENCE} b", "", {}])
def test_an_audience_that_only_holds_ours_is_another(issuer: Issuer, audience: object) -> None:
    site = Site(issuer)
    head = issuer.sign(said()).split(".")[0]
    for named in (audience, [audience]):
        text = f"{head}.{encoded(said(aud=named))}"
        token = f"{text}.{encoded(jwt_signer()(text.encode()))}"
        assert site.fault(token) is TokenFault.AUDIENCE
