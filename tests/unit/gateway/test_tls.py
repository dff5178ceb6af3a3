"""A certificate that cannot be used stops the start, with the fix; one that is renewed is taken."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forebay.gateway.tls import Certificate, CertificateRefused, TlsConfig
from tests.support.certificates import Authority, Issued


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def config(issued: Issued) -> TlsConfig:
    return TlsConfig(certificate=str(issued.certificate), key=str(issued.key))


def missing(issued: Issued) -> None:
    issued.certificate.unlink()


def keyless(issued: Issued) -> None:
    issued.key.unlink()


def open_to_all(issued: Issued) -> None:
    issued.key.chmod(0o644)


def garbled(issued: Issued) -> None:
    issued.certificate.write_text("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n")


def empty(issued: Issued) -> None:
    issued.certificate.write_bytes(b"")


def garbled_key(issued: Issued) -> None:
    issued.key.write_text("no key")


def folder(issued: Issued) -> None:
    issued.certificate.unlink()
    issued.certificate.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (missing, "There is no file where server.tls_certificate points."),
        (keyless, "There is no file where server.tls_key points."),
        (open_to_all, "chmod 600"),
        (garbled, "server.tls_certificate holds no PEM certificate."),
        (empty, "server.tls_certificate holds no PEM certificate."),
        (garbled_key, "holds no PEM that can be used"),
        (folder, "cannot be read by this user"),
    ],
)
def test_what_is_wrong_with_the_files_is_said_without_a_path(
    tmp_path: Path, authority: Authority, spoil: Callable[[Issued], None], said: str
) -> None:
    issued = authority.issue(tmp_path, "a")
    spoil(issued)
    with pytest.raises(CertificateRefused) as caught:
        Certificate(config(issued))
    assert said in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("days", "said"), [((-9.0, -1.0), "expired on"), ((1.0, 2.0), "is valid from")]
)
def test_a_certificate_is_valid_now(
    tmp_path: Path, authority: Authority, days: tuple[float, float], said: str
) -> None:
    with pytest.raises(CertificateRefused, match=said):
        Certificate(config(authority.issue(tmp_path, "a", days=days)))


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, authority: Authority) -> None:
    one, other = authority.issue(tmp_path, "a"), authority.issue(tmp_path, "b")
    with pytest.raises(CertificateRefused, match=r"is not the key of server\.tls_certificate"):
        Certificate(TlsConfig(certificate=str(one.certificate), key=str(other.key)))


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(
    tmp_path: Path, authority: Authority
) -> None:
    with pytest.raises(CertificateRefused, match="without a passphrase"):
        Certificate(config(authority.issue(tmp_path, "a", secret="a passphrase")))


def test_a_key_that_a_group_may_read_is_taken(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(tmp_path, "a")
    issued.key.chmod(0o640)
    Certificate(config(issued))


def test_a_renewed_certificate_is_taken_and_the_same_one_is_no_other(
    tmp_path: Path, authority: Authority
) -> None:
    certificate = Certificate(config(authority.issue(tmp_path, "a")))
    before = certificate.context
    assert not certificate.renew()
    authority.issue(tmp_path, "a", days=(-1.0, 5.0))
    assert certificate.renew()
    assert certificate.context is not before
    assert certificate.expires > datetime.now(UTC) + timedelta(days=4)


def test_a_renewed_certificate_that_cannot_be_used_changes_nothing(
    tmp_path: Path, authority: Authority
) -> None:
    certificate = Certificate(config(authority.issue(tmp_path, "a")))
    before = certificate.context
    authority.issue(tmp_path, "a", days=(-2.0, -1.0))
    with pytest.raises(CertificateRefused):
        certificate.renew()
    assert certificate.context is before
