"""What becomes of logits in whatever library holds them: who falls by how much, who is drawn.

Chance is a function of a sequence's seed and of how many tokens its answer has, so the same
seed gives the same choices whatever runs beside it, and after another engine's beginning.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

from forebay.core.request import Sampling, TokenId

_CHANCE_BYTES: Final = 4
"""32 bits: a larger fraction, rounded, could reach the sum of all chances."""


def chance(seed: int, index: int) -> float:
    """Return a fraction in [0, 1) for the token of that index in an answer with that seed."""
    text = f"{seed}/{index}".encode()
    drawn = hashlib.blake2b(text, digest_size=_CHANCE_BYTES).digest()
    return int.from_bytes(drawn, "big") / 256**_CHANCE_BYTES


def penalties(made: Sequence[TokenId], sampling: Sampling) -> dict[TokenId, float]:
    """Return by how much the logits of the answer's own tokens fall, as OpenAI defines it."""
    presence, frequency = sampling.presence_penalty, sampling.frequency_penalty
    if not presence and not frequency:
        return {}
    return {token: presence + frequency * times for token, times in Counter(made).items()}
