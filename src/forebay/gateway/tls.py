"""TLS at the door: the certificate, read again without a restart, and the handshake, bounded.

A connection is counted before its handshake, so that clients that never finish one are bounded
like all others.
"""

import asyncio
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from uvloop.loop import SSLProtocol  # type: ignore[attr-defined]  # its stubs leave it out

from forebay.gateway.connection import Connection
from forebay.gateway.terms import Terms

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: those that keep what was recorded secret, and that authenticate what they encrypt."""
_UNSENT_BYTES: Final = 65_536
"""From so many unsent bytes on a writer waits, as without TLS."""
_BYE_S_MAX: Final = 5.0
"""Longest wait for a client's goodbye (`close_notify`)."""
_PEM_BYTES_MAX: Final = 1_048_576


class CertificateRefused(Exception):
    """A certificate cannot be used; the text says why and what to do, and names no path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Where the certificate lies, and how long a client has for its handshake."""

    certificate: str
    key: str
    handshake_s_max: float = 10.0


class Certificate:
    """The server's certificate; raises CertificateRefused if it cannot be used.

    Mutable state: what new connections are made with.
    """

    def __init__(self, config: TlsConfig, now: Callable[[], datetime] | None = None) -> None:
        """Read it."""
        self._config = config
        self._now = now or (lambda: datetime.now(UTC))
        self.handshake_s_max = config.handshake_s_max
        self._loaded = self._read()

    @property
    def context(self) -> ssl.SSLContext:
        """What new connections are made with."""
        return self._loaded.context

    @property
    def expires(self) -> datetime:
        """When it ends."""
        return self._loaded.expires

    def renew(self) -> bool:
        """Read it again, which may take a while; return whether it is another.

        Connections that are open go on.  Raises CertificateRefused, and goes on with what it had.
        """
        loaded = self._read()
        another = loaded.pem != self._loaded.pem
        self._loaded = loaded
        return another

    def _read(self) -> "_Loaded":
        certificate, key = Path(self._config.certificate), Path(self._config.key)
        pem, expires = _checked(_bytes(certificate, "server.tls_certificate"), self._now())
        if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o007:
            raise CertificateRefused("Everybody may read the file of server.tls_key: chmod 600 it.")
        if b"ENCRYPTED" in _bytes(key, "server.tls_key"):
            raise CertificateRefused("server.tls_key is encrypted: store it without a passphrase.")
        context = _context()
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                text = "server.tls_key is not the key of server.tls_certificate."
                raise CertificateRefused(text) from None
            text = "server.tls_certificate or server.tls_key holds no PEM that can be used."
            raise CertificateRefused(text) from None
        return _Loaded(context=context, expires=expires, pem=pem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    context: ssl.SSLContext
    expires: datetime
    pem: bytes


def _bytes(path: Path, setting: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_PEM_BYTES_MAX)
    except FileNotFoundError:
        raise CertificateRefused(f"There is no file where {setting} points.") from None
    except OSError:
        text = f"The file of {setting} cannot be read by this user."
        raise CertificateRefused(text) from None


def _checked(pem: bytes, now: datetime) -> tuple[bytes, datetime]:
    """Return the certificate and its end; raises CertificateRefused if it is not valid now."""
    from cryptography import x509  # noqa: PLC0415 - a server without TLS has no use for it

    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        text = "server.tls_certificate holds no PEM certificate."
        raise CertificateRefused(text) from None
    expires = leaf.not_valid_after_utc
    if expires <= now:
        text = f"server.tls_certificate expired on {expires:%Y-%m-%d}: renew it."
        raise CertificateRefused(text)
    if leaf.not_valid_before_utc > now:
        begins = leaf.not_valid_before_utc
        text = f"server.tls_certificate is valid from {begins:%Y-%m-%d %H:%M} UTC on only."
        raise CertificateRefused(text)
    return pem, expires


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> bytes:
    raise CertificateRefused("server.tls_key is encrypted: store it without a passphrase.")


class _Secured(Connection):
    """A connection over TLS."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let a writer wait as soon as it would without TLS."""
        transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        super().connection_made(transport)


class Door(asyncio.Protocol):
    """One client's connection until its TLS handshake is done; then it is a `Connection`'s.

    `loop.start_tls` would do, but for what a client sends before it has begun: uvloop gives that
    to the protocol before.  So the loop's own TLS is put in between, as the loop does it.
    """

    def __init__(self, *given: Any, terms: Terms, certificate: Certificate, **named: Any) -> None:  # noqa: ANN401 - they are uvicorn's
        """Take what uvicorn gives."""
        self._connection = _Secured(*given, terms=terms, **named)
        self._terms = terms
        self._certificate = certificate

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and shake hands; one too many is cut: it would cost a handshake to tell it."""
        self._transport, connection = transport, self._connection
        peer = transport.get_extra_info("peername")
        connection.place = self._terms.crowd.enter(peer[:2] if isinstance(peer, tuple) else None)
        if connection.place is None:
            transport.abort()
            return
        connection.connections.add(self)  # type: ignore[arg-type]  # to be told of the server's end
        shaken = asyncio.get_running_loop().create_future()
        shaken.add_done_callback(self._shaken)
        secured = SSLProtocol(
            asyncio.get_running_loop(),
            connection,
            self._certificate.context,
            shaken,
            server_side=True,
            ssl_handshake_timeout=self._certificate.handshake_s_max,
            ssl_shutdown_timeout=_BYE_S_MAX,
        )
        transport.set_protocol(secured)
        secured.connection_made(transport)

    def _shaken(self, shaken: "asyncio.Future[None]") -> None:
        """Forget the handshake; one that failed is the client's business."""
        connection = self._connection
        connection.connections.discard(self)
        if not shaken.cancelled():
            shaken.exception()  # it has been seen
        if connection.transport is None and connection.place is not None:
            self._terms.crowd.leave(connection.place)
            connection.place = None

    def shutdown(self) -> None:
        """End it: the server stops."""
        self._transport.abort()
