"""An issuer's keys, from a real server that can lie, hang and turn them."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from forebay.accounts.config import AccountsAway
from forebay.accounts.jwks import Jwks
from forebay.accounts.tokens import TokenFault
from tests.support.issuer_sites import Site, said, until
from tests.support.issuers import EC, OTHER_RSA, RSA, Issuer, issuing, jwk


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as found:
        yield found


def test_keys_are_fetched_once_for_many_tokens(issuer: Issuer) -> None:
    site = Site(issuer)
    for _ in range(100):
        site.verify(issuer.sign(said()))
    assert issuer.fetches == 1


def test_a_new_key_is_found_when_a_token_names_it(issuer: Issuer) -> None:
    site = Site(issuer)
    site.verify(issuer.sign(said()))
    issuer.keys.append(jwk(OTHER_RSA, "r2"))
    token = issuer.sign(said(), OTHER_RSA, kid="r2")
    assert site.fault(token) is TokenFault.KEY  # they were fetched a moment ago
    site.clock.advance(10.0)
    assert site.verify(token).user == "oidc:alice"


def test_a_key_that_the_issuer_took_away_ends_at_the_next_fetch(issuer: Issuer) -> None:
    site = Site(issuer, refresh_s=600.0)
    token = issuer.sign(said())
    site.verify(token)
    issuer.keys = [jwk(EC, "e1")]
    site.clock.advance(601.0)
    site.verify(token)  # it goes on with what is known, and the fetch begins
    site.fetched()
    assert site.fault(token) is TokenFault.KEY


def test_garbage_kids_cost_one_fetch_in_ten_seconds(issuer: Issuer) -> None:
    site = Site(issuer)
    for second in range(100):
        site.clock.advance(1.0)
        assert site.fault(issuer.sign(said(), kid=f"garbage{second}")) is TokenFault.KEY
    assert issuer.fetches == 10


def test_while_the_issuer_is_away_known_keys_go_on_and_then_end(issuer: Issuer) -> None:
    site = Site(issuer, refresh_s=600.0, stale_s_max=3_600.0)
    token = issuer.sign(said())
    site.verify(token)
    issuer.status = 500
    for _ in range(42):
        site.clock.advance(100.0)
        site.verify(token)
        site.fetched()
    assert site.jwks.failures > 10
    assert site.events == ["oidc.keys_away"]
    site.clock.advance(200.0)
    assert site.is_away(token)
    issuer.status = 200
    site.clock.advance(10.0)
    assert site.verify(token).user == "oidc:alice"
    assert site.events == ["oidc.keys_away", "oidc.keys_back"]


def test_before_any_key_was_fetched_nobody_is_called_invalid(issuer: Issuer) -> None:
    issuer.status = 503
    site = Site(issuer)
    token = issuer.sign(said())
    assert site.is_away(token)
    assert site.is_away(token)
    assert issuer.fetches == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[7]}',
        b'{"keys":[{"kty":"oct","kid":"r1","k":"c3M"}]}',
        b"[" * 100_000,
        b'{"keys":[],"more":"' + b"x" * 300_000 + b'"}',
        b"\xff",
    ],
)
def test_a_list_that_is_none_changes_nothing(issuer: Issuer, body: bytes) -> None:
    site = Site(issuer)
    token = issuer.sign(said())
    site.verify(token)
    issuer.body = body
    site.clock.advance(700.0)
    site.verify(token)
    site.fetched()
    assert site.jwks.failures == 1
    site.verify(token)


def test_a_redirect_is_not_followed(issuer: Issuer) -> None:
    issuer.status = 302
    issuer.headers = {"Location": issuer.url}
    site = Site(issuer)
    assert site.is_away(issuer.sign(said()))
    site.fetched()
    assert issuer.fetches == 1


def test_a_list_that_drips_is_cut_off_in_time(issuer: Issuer) -> None:
    issuer.drip_s = 0.01
    site = Site(issuer, timeout_s=0.2)
    began = time.monotonic()
    site.jwks.fetch()
    site.fetched()
    assert time.monotonic() - began < 2.0  # the list would take ten seconds
    assert site.jwks.failures == 1


def test_an_issuer_that_hangs_keeps_one_waiting_for_a_moment_and_others_not_at_all(
    issuer: Issuer,
) -> None:
    site = Site(issuer, refresh_s=600.0)
    token = issuer.sign(said())
    site.verify(token)
    issuer.hold.clear()
    site.clock.advance(700.0)
    began = time.monotonic()
    for _ in range(100):
        site.verify(token)
    assert site.is_away(issuer.sign(said(), kid="new"))
    assert time.monotonic() - began < 0.4
    issuer.hold.set()
    site.fetched()


def test_only_one_fetch_is_under_way_however_many_ask(issuer: Issuer) -> None:
    site = Site(issuer)
    issuer.hold.clear()
    token = issuer.sign(said())
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(site.is_away(token))) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(found) >= 7)
    issuer.hold.set()
    for thread in threads:
        thread.join()
    assert issuer.fetches == 1


def test_https_verifies_who_answers(issuer: Issuer) -> None:
    site = Site(issuer)
    config = replace(site.config, jwks_url=issuer.url.replace("http:", "https:"))
    jwks = Jwks(config, clock=site.clock)
    with pytest.raises(AccountsAway):
        jwks.find("r1")  # it speaks no TLS
    assert jwks.failures == 1


def test_of_a_long_list_a_hundred_keys_are_used_and_of_a_longer_one_none(issuer: Issuer) -> None:
    token = issuer.sign(said())
    others = [jwk(EC, f"e{number}") for number in range(100)]
    site = Site(issuer)
    issuer.keys = [*others[1:], jwk(RSA, "r1")]
    assert site.verify(token).user == "oidc:alice"
    site = Site(issuer)
    issuer.keys = [*others, jwk(RSA, "r1")]
    assert site.fault(token) is TokenFault.KEY
    issuer.keys = [jwk(RSA, "r1", more="x" * 300_000)]
    assert Site(issuer).is_away(token)
