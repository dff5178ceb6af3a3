"""A certificate authority of a drill's own."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_BACKDATED = timedelta(days=1)
_LONG = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates for 127.0.0.1, always into the same files."""

    def __init__(self, folder: Path) -> None:
        """Write down whom to trust."""
        self.file = folder / "authority.pem"
        self._files = Files(certificate=folder / "server.pem", key=folder / "server.key")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A drill")])
        own = self._begun(self._key, ends=datetime.now(UTC) + _LONG).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.file.write_bytes(self._signed(own))

    def issue(self, *, days: float) -> Files:
        """Issue a certificate that ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        begun = self._begun(key, ends=datetime.now(UTC) + timedelta(days=days))
        self._files.key.touch(mode=0o600)
        self._files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self._files.certificate.write_bytes(
            self._signed(begun.add_extension(names, critical=False))
        )
        return self._files

    def _begun(self, key: ec.EllipticCurvePrivateKey, *, ends: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - _BACKDATED)
            .not_valid_after(ends)
        )

    def _signed(self, begun: x509.CertificateBuilder) -> bytes:
        return begun.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
