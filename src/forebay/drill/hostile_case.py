"""One hostile request: what is sent, how its sender goes, and what may come back."""

import enum
from dataclasses import dataclass
from typing import Final

MODEL: Final = "scripted"
HOST: Final = "127.0.0.1"


class Kind(enum.StrEnum):
    """Where a hostile request comes from."""

    RAW = "raw"
    """A sound request whose bytes were changed."""
    SCHEMA = "schema"
    """Sound HTTP with a body drawn from our own OpenAPI document, often beyond its bounds."""
    CREDENTIAL = "credential"
    """A sound request with a credential that no server gave out."""
    SMUGGLED = "smuggled"
    """A request that two parsers may read as one or as two."""


class Going(enum.StrEnum):
    """What the sender does once it has sent everything."""

    WAIT = "wait"
    """It waits for the answer; if none comes it closes its sending side."""
    HALF_CLOSE = "half-close"
    """It closes its sending side at once."""
    RESET = "reset"
    """It resets the connection at once and sees nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One hostile request."""

    number: int
    """With the seed it is all that is needed to make it again."""
    kind: Kind
    sent: bytes
    going: Going = Going.WAIT
    path: str | None = None
    """The path as the server must read it; None: the bytes leave that open."""
    framed: bool = False
    """It is sound HTTP: the connection may serve the next case, too."""
    replies_max: int | None = None
    """More answers than that mean that something was taken for a request that is none."""
    impostor: bool = False
    """It shows a credential that is wrong: a server that asks for one must not serve it."""


def request(
    path: str,
    body: bytes,
    *,
    method: str = "POST",
    headers: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Return the bytes of a sound request; header values are sent as Latin-1 has them."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body
