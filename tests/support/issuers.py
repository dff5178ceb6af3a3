"""An OpenID issuer on loopback, which can lie, hang and turn its keys."""

import base64
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

RSA: Final = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_RSA: Final = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC: Final = ec.generate_private_key(ec.SECP256R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Key, kid: str, **more: Any) -> dict[str, Any]:
    """Return the public half of a key as issuers list it; None leaves a field out."""
    match key:
        case rsa.RSAPrivateKey():
            facts = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case ec.EllipticCurvePrivateKey():
            facts = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        case _:
            facts = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    facts = dict(facts) | {"kid": kid} | more
    return {name: found for name, found in facts.items() if found is not None}


def symmetric(kid: str, secret: bytes) -> dict[str, Any]:
    """Return a secret as no issuer should list it."""
    text = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    return {"kty": "oct", "kid": kid, "k": text, "alg": "HS256"}


class Issuer:
    """Serves a list of keys, and signs tokens."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [jwk(RSA, "r1"), jwk(EC, "e1")]
        self.body: bytes | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.drip_s = 0.0
        self.hold = threading.Event()
        self.hold.set()
        self.fetches = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Where the keys are."""
        return f"http://127.0.0.1:{self.port}/keys?v=1"

    def sign(
        self, said: dict[str, Any], key: Any = RSA, *, kid: str | None = "r1", **header: Any
    ) -> str:
        """Return a token; `alg` among `header` is RS256 if it is not said."""
        algorithm = header.pop("alg", "RS256")
        more = {"kid": kid, **header} if kid is not None else header
        return jwt.encode(said, key, algorithm=algorithm, headers=more)

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one question, in whatever way the test wants."""
        self.fetches += 1
        self.hold.wait(5.0)
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        handler.send_response(self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        if "Content-Length" not in self.headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        with contextlib.suppress(OSError):
            if not self.drip_s:
                handler.wfile.write(body)
                return
            for byte in body:
                handler.wfile.write(bytes([byte]))
                time.sleep(self.drip_s)


@contextlib.contextmanager
def issuing() -> Iterator[Issuer]:
    """Run an issuer while the body runs."""
    issuer = Issuer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield issuer
    finally:
        issuer.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
