"""Credentials that no server gave out: keys that nearly are some, tokens that nobody signed."""

import base64
import json
import random
import zlib
from collections.abc import Callable
from typing import Final

Credential = Callable[[random.Random], str]

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ODD: Final = (
    *("", " ", "\t", "null", "undefined", "true", "0", "[]", "{}", "admin", "*", "Bearer"),
    *("' OR '1'='1", "'; DROP TABLE keys;--", '" OR ""="', "1) UNION SELECT hash FROM keys--"),
    *("fb_live_' OR 1=1--", "fb_live_%", "fb_live__________", "fb_live_" + "a" * 44, "fb_test_x"),
    *("fb_live_\x00", "\x00", "\x7f", "a\x0bb", "é" * 40, "ÿ" * 40, "{{7*7}}", "${jndi:ldap://x}"),
    *("../../etc/passwd", "%00", "%s%s%n", "A" * 8_000, "a,b", "a b", "Basic YWRtaW46YWRtaW4="),
)
_HEADERS: Final = ("Authorization", "authorization", "X-API-Key", "x-api-key")
_SCHEMES: Final = ("Bearer ", "bearer ", "BEARER ", "Bearer  ", "Bearer\t", "Basic ", "Token ", "")


def credentials(draw: random.Random) -> tuple[tuple[str, str], ...]:
    """Return one or two headers with credentials that are wrong."""
    return tuple(_header(draw) for _ in range(draw.choice((1, 1, 1, 2))))


def _header(draw: random.Random) -> tuple[str, str]:
    name, value = draw.choice(_HEADERS), draw.choice(_CREDENTIALS)(draw)
    return name, (draw.choice(_SCHEMES) if "uth" in name else "") + value


def odd(draw: random.Random) -> str:
    """Return what breaks those who put statements, templates or paths together from it."""
    return draw.choice(_ODD)


def noise(draw: random.Random) -> str:
    """Return any characters that a header may hold, and some that it may not."""
    return "".join(chr(draw.randrange(32, 256)) for _ in range(draw.randint(1, 120)))


def key_with_checksum(draw: random.Random) -> str:
    """Return what looks like an API key in every way, its checksum included."""
    body = "fb_live_" + "".join(draw.choices(_ALPHABET, k=38))
    return body + _base62(zlib.crc32(body.encode()))


def key_without_checksum(draw: random.Random) -> str:
    """Return what has the length and the letters of an API key."""
    return "fb_live_" + "".join(draw.choices(_ALPHABET, k=draw.choice((43, 44, 45))))


def token(draw: random.Random) -> str:
    """Return a JWT: unsigned, signed by nobody, or with a header that points elsewhere."""
    header = draw.choice(
        (
            {"alg": "none", "typ": "JWT"},
            {"alg": "HS256", "typ": "JWT"},
            {"alg": "HS256", "kid": "../../dev/null"},
            {"alg": "RS256", "jku": "http://127.0.0.1:9/keys"},
            {"alg": "RS256", "x5u": "http://169.254.169.254/"},
            {"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}},
            {"alg": ["HS256"], "kid": {"$ne": None}},
            {"alg": "HS256", "crit": ["b64"], "b64": False},
        )
    )
    claims = {"sub": "admin", "role": "admin", "exp": draw.choice((0, 2**31, 2**70, "x", None))}
    signature = draw.choice(("", "AA", base64.urlsafe_b64encode(draw.randbytes(32)).decode()))
    parts = [_encoded(header), _encoded(claims), signature.rstrip("=")]
    return ".".join(parts[: draw.choice((3, 3, 3, 2))]) + draw.choice(("", "", ".", ".x"))


_CREDENTIALS: Final[tuple[Credential, ...]] = (
    *(odd, noise, key_with_checksum, key_without_checksum, token),
)


def _encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def _base62(number: int) -> str:
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
