"""An issuer's public keys: fetched, bounded, believed for a while, and missed without harm.

Theory of operation
-------------------
Keys are fetched by a thread of their own, one fetch at a time, so that an issuer that hangs keeps
nobody waiting who asks for something else.  Known keys are believed for `oidc.refresh_s`; then
the next who asks has them fetched again, and goes on with those that are known.  While no fetch
succeeds they are believed for `oidc.stale_s_max` more.  A key that is not known has them fetched
too, at most once in `_PAUSE_S`, whatever kids are thrown at us; whoever asked waits for that for
`_PATIENCE_S` and is then told to come back.  "There is no such key" is said only by a fetch that
succeeded not long ago.

What is fetched is a list of at most `_KEYS_MAX` in at most `_BYTES_MAX`, over https without
redirects, within `oidc.timeout_s` however slowly it drips; only the system's name look-up has no
bound of ours.  Proxies of the environment are not used.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from msgspec import Struct

from forebay.accounts.config import AccountsAway
from forebay.accounts.token_config import OidcConfig
from forebay.accounts.token_rules import address_of, words
from forebay.core.clock import MONOTONIC, Clock
from forebay.core.record import EventLog

_PAUSE_S: Final = 10.0
_PATIENCE_S: Final = 0.5
_BYTES_MAX: Final = 262_144
_CHUNK_BYTES: Final = 65_536
_KEYS_MAX: Final = 100
_KID_CHARACTERS_MAX: Final = 256
_RSA_BITS_MIN: Final = 2_048
_RSA_BITS_MAX: Final = 8_192
_KINDS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""Kind and curve of a key -> signatures that it can be for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key, and the signatures that it is for: nothing else is verified by it."""

    key: Any
    algorithms: frozenset[str]


class _KeyList(Struct):
    keys: list[dict[str, Any]]


class Jwks:
    """Knows an issuer's keys.  For any number of threads."""

    def __init__(
        self, config: OidcConfig, *, clock: Clock = MONOTONIC, log: EventLog | None = None
    ) -> None:
        """Fetch nothing yet."""
        self._config = config
        self._clock = clock
        self._log = log
        self._allowed = frozenset(words(config.algorithms))
        self._changing = threading.Lock()
        # The whole mutable state: the keys, replaced and never changed; when they were fetched,
        # when that was tried, and what says that the fetch under way is over.
        self._keys: Mapping[str, PublicKey] = MappingProxyType({})
        self._fetched: float | None = None
        self._tried: float | None = None
        self._over: threading.Event | None = None
        self.failures = 0
        """Fetches that failed since one succeeded."""

    def fetch(self) -> None:
        """Begin to fetch the keys, unless that is under way or was done a moment ago."""
        self._begin()

    def find(self, kid: str) -> PublicKey | None:
        """Return the key of that name; None: there is none.  Raises AccountsAway: not known."""
        age_s = self._passed_s(self._fetched)
        key = self._keys.get(kid)
        if key is not None and age_s <= self._config.refresh_s + self._config.stale_s_max:
            if age_s > self._config.refresh_s:
                self._begin()
            return key
        if key is None and age_s < _PAUSE_S:
            return None
        over = self._begin()
        if over is None or not over.wait(_PATIENCE_S) or self._passed_s(self._fetched) >= _PAUSE_S:
            raise AccountsAway
        return self._keys.get(kid)

    def _begin(self) -> threading.Event | None:
        """Begin a fetch; return what says that it is over, None where none may begin."""
        with self._changing:
            if self._over is not None or self._passed_s(self._tried) < _PAUSE_S:
                return None
            self._tried = self._clock()
            over = self._over = threading.Event()
        threading.Thread(target=self._run, args=(over,), name="forebay-jwks", daemon=True).start()
        return over

    def _passed_s(self, since: float | None) -> float:
        return float("inf") if since is None else self._clock() - since

    # What follows runs in the thread.

    def _run(self, over: threading.Event) -> None:
        try:
            self._keys = MappingProxyType(self._read(_fetched(self._config)))
            self._fetched = self._clock()
            self._note(failed=False)
        except (OSError, http.client.HTTPException, ValueError):
            self._note(failed=True)
        finally:
            self._over = None
            over.set()

    def _read(self, text: bytes) -> dict[str, PublicKey]:
        """Return the keys in a list that are fit to verify; raises ValueError if none is."""
        try:
            listed = msgspec.json.decode(text, type=_KeyList).keys
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        found = {}
        for facts in listed[:_KEYS_MAX]:
            kid = facts.get("kid")
            if isinstance(kid, str) and 0 < len(kid) <= _KID_CHARACTERS_MAX:
                key = _public_key(facts, self._allowed)
                if key is not None:
                    found[kid] = key
        if not found:
            raise ValueError("no key that can be used")
        return found

    def _note(self, *, failed: bool) -> None:
        before, self.failures = self.failures, self.failures + 1 if failed else 0
        if self._log is not None and bool(before) != failed:
            self._log("oidc.keys_away" if failed else "oidc.keys_back", failures=before)


def _public_key(facts: Mapping[str, Any], allowed: frozenset[str]) -> PublicKey | None:
    """Return a key with the signatures that it is for; None: it is for none that are taken."""
    kind, curve = facts.get("kty"), facts.get("crv", "")
    if not isinstance(kind, str) or not isinstance(curve, str) or "d" in facts:
        return None
    usable = allowed.intersection(_KINDS.get((kind, curve), ()))
    named, use, acts = facts.get("alg"), facts.get("use", "sig"), facts.get("key_ops", ["verify"])
    if named is not None:
        usable &= {named} if isinstance(named, str) else set()
    if use != "sig" or not isinstance(acts, list) or "verify" not in acts or not usable:
        return None
    try:
        key = PyJWK(dict(facts), algorithm=min(usable)).key
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAPublicKey) and not _RSA_BITS_MIN <= key.key_size <= _RSA_BITS_MAX:
        return None
    return PublicKey(key=key, algorithms=usable)


def _fetched(config: OidcConfig) -> bytes:
    """Return what is at the address; raises OSError, HTTPException or ValueError."""
    parts, port = address_of(config.jwks_url)
    host = parts.hostname or ""
    until = time.monotonic() + config.timeout_s
    connection = http.client.HTTPConnection(host, port)
    with contextlib.closing(socket.create_connection((host, port), config.timeout_s)) as plain:
        # Each wait is bounded by the socket, all of them together by this hand on it.
        hand = plain.dup()
        cut = threading.Timer(max(0.0, until - time.monotonic()), partial(_cut, hand))
        cut.daemon = True
        cut.start()
        try:
            secure = parts.scheme == "https"
            connection.sock = _encrypted(plain, host) if secure else plain
            path = parts._replace(scheme="", netloc="").geturl() or "/"
            asked = {"Accept": "application/json", "Connection": "close"}
            connection.request("GET", path, headers=asked)
            return _body(connection.getresponse())
        finally:
            cut.cancel()
            hand.close()
            connection.close()


def _encrypted(plain: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _body(response: http.client.HTTPResponse) -> bytes:
    if response.status != http.HTTPStatus.OK:
        raise ValueError("another status than 200")  # a redirect too
    body = b""
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > _BYTES_MAX:
            raise ValueError("longer than a list of keys")
    return body


def _cut(hand: socket.socket) -> None:
    with contextlib.suppress(OSError):
        hand.shutdown(socket.SHUT_RDWR)
