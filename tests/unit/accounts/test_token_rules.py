"""What a configuration of tokens may say, and what it is told otherwise."""

from dataclasses import replace
from typing import Any

import pytest

from forebay.accounts.token_config import OidcConfig, TokensConfig
from forebay.accounts.token_rules import address_of, misfits, roles_of
from forebay.core.caller import Role

SOUND = OidcConfig(
    issuer="https://id.example", audience="forebay", jwks_url="https://id.example/keys"
)


def wrong(oidc: OidcConfig = SOUND, tokens: TokensConfig | None = None) -> dict[str, str]:
    return dict(misfits(tokens or TokensConfig(), oidc))


def test_nothing_is_wrong_with_the_defaults_and_with_a_sound_issuer() -> None:
    assert not wrong(OidcConfig())
    assert not wrong()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"audience": ""}, "audience"),
        ({"user_claim": ""}, "user_claim"),
        ({"types": " , "}, "types"),
        ({"jwks_url": ""}, "jwks_url"),
        ({"algorithms": ""}, "algorithms"),
        ({"algorithms": "HS256"}, "algorithms"),
        ({"algorithms": "RS256,none"}, "algorithms"),
        ({"algorithms": "rs256"}, "algorithms"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": "anonymous"}, "tenant"),
        ({"role_claim": "groups"}, "roles"),
        ({"roles": "a=admin"}, "roles"),
        ({"role_claim": "groups", "roles": "a=king"}, "roles"),
        ({"role_claim": "groups", "roles": "admin"}, "roles"),
        ({"role_claim": "groups", "roles": "=admin"}, "roles"),
    ],
)
def test_what_cannot_be_stops_the_start(changes: dict[str, Any], key: str) -> None:
    found = wrong(replace(SOUND, **changes))
    assert list(found) == [f"oidc.{key}"]
    assert found[f"oidc.{key}"].startswith(f"oidc.{key} ")
    assert found[f"oidc.{key}"].endswith(".")


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/keys",
        "http://10.0.0.1/keys",
        "http://127.0.0.1.evil.example/keys",
        "https://user:secret@id.example/keys",
        "https://user@id.example/keys",
        "https://id.example/keys#x",
        "https:///keys",
        "https://",
        "file:///etc/passwd",
        "ftp://id.example/keys",
        "id.example/keys",
        "https://id.example:99999/keys",
        "https://id.example:0/keys",
        "https://[::1/keys",
        "https://id.example/a b",
        "https://id.example/a\r\nx: y",
        "https://\u0131d.example/keys",
    ],
)
def test_an_address_from_which_others_could_feed_us_keys_is_refused(url: str) -> None:
    found = wrong(replace(SOUND, jwks_url=url))
    assert list(found) == ["oidc.jwks_url"]
    assert "secret" not in found["oidc.jwks_url"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/k", "http://localhost/k", "http://[::1]:1/k", "https://x:8443"]
)
def test_https_anywhere_and_http_on_this_machine_are_fine(url: str) -> None:
    assert not wrong(replace(SOUND, jwks_url=url))


def test_an_address_has_the_port_of_its_scheme() -> None:
    assert [address_of(url)[1] for url in ("https://x/k", "http://x/k", "https://x:1/k")] == [
        443,
        80,
        1,
    ]


def test_two_issuers_of_one_name_cannot_be_told_apart() -> None:
    assert "oidc.issuer" in wrong(replace(SOUND, issuer="forebay"))
    assert "tokens.audience" in wrong(tokens=TokensConfig(audience=""))


def test_roles_are_read_in_their_order_and_may_hold_signs() -> None:
    found = roles_of(" cn=admins = admin ,ops=operator, all=metrics-reader")
    assert list(found.items()) == [
        ("cn=admins", Role.ADMIN),
        ("ops", Role.OPERATOR),
        ("all", Role.METRICS_READER),
    ]
