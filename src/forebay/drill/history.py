"""What clients saw of keys, and the model that it is held against.

The model is a register that is written once.  A key stands for one wish; the first answer that
any client receives in full writes it, and every later one must be the same bytes.  Which of two
generations wins is not told (a gateway may die before it has answered anybody), but that two
different ones are seen is never allowed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One client's wish, from the first try to its answer.  Moments are monotonic seconds."""

    key: str
    client: int
    asked: float
    ended: float
    body: bytes | None
    """The answer in full; None if the client gave up."""
    tries: int = 1
    replayed: bool = False
    degraded: bool = False
    """The server said that its store was away."""
    resumed: bool = False
    """Put together from what came before the gateway died and what came after."""


def violations(history: Iterable[Op]) -> list[str]:
    """Return what the model does not allow: empty for a good history."""
    written: dict[str, Op] = {}
    found = []
    for op in sorted(history, key=lambda op: op.ended):
        if op.body is None:
            found.append(f"key {op.key}: client {op.client} got no answer in {op.tries} tries")
            continue
        first = written.setdefault(op.key, op)
        if first.body != op.body:
            found.append(
                f"key {op.key}: client {op.client} got {_mark(op.body)},"
                f" client {first.client} had got {_mark(first.body)}"
            )
    return found


def _mark(body: bytes | None) -> str:
    return sha256(body or b"").hexdigest()[:12]
