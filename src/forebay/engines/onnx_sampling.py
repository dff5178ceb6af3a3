"""From logits to a token, in numpy: for one sequence at a time, with wishes of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from forebay.core.request import Sampling, TokenId
from forebay.engines.logit_rules import chance, penalties
from forebay.engines.sampling_bounds import TEMPERATURE_MIN

_FLOORS: Final = (1e-3, 1e-6, 0.0)
"""Most nuclei have no token whose odds, against the likeliest, are less."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token and its natural-log probability as the model has it; None where it is no number."""

    token_id: TokenId
    logprob: float | None


def best(logits: Any) -> list[Chosen | None]:  # noqa: ANN401 - numpy's
    """Return the likeliest token of each row of [rows, tokens]; None where a row is not finite."""
    import numpy as np  # noqa: PLC0415 - heavy

    token_ids = logits.argmax(axis=-1)
    # A NaN anywhere in a row is its maximum.
    fine = np.isfinite(logits[np.arange(len(logits)), token_ids])
    return [
        Chosen(token_id, None) if finite else None
        for token_id, finite in zip(token_ids.tolist(), fine.tolist(), strict=True)
    ]


def choose(
    logits: Any,  # noqa: ANN401 - numpy's
    greedy: Chosen,
    sampling: Sampling,
    *,
    made: Sequence[TokenId],
    banned: Sequence[TokenId],
) -> Chosen:
    """Choose a token from one row, whose likeliest is known; chance is in seed and place only."""
    token_id = greedy.token_id
    falls = penalties(made, sampling)
    drawn = sampling.temperature >= TEMPERATURE_MIN and sampling.top_k != 1
    if falls or banned or drawn:
        scores = _adjusted(logits, falls, banned)
        token_id = _draw(scores, sampling, len(made)) if drawn else int(scores.argmax())
    return Chosen(token_id, _logprob(logits, token_id) if sampling.logprobs else None)


def _adjusted(logits: Any, falls: dict[TokenId, float], banned: Sequence[TokenId]) -> Any:  # noqa: ANN401 - numpy's
    if not falls and not banned:
        return logits
    scores = logits.copy()
    if falls:
        scores[list(falls)] -= list(falls.values())
    if banned:
        scores[list(banned)] = -float("inf")
    return scores


def _draw(scores: Any, sampling: Sampling, index: int) -> int:  # noqa: ANN401 - numpy's
    import numpy as np  # noqa: PLC0415 - heavy

    odds = np.exp((scores - scores.max()) / np.float32(sampling.temperature))
    if sampling.min_p:
        odds[odds < sampling.min_p] = 0.0
    places = None
    if sampling.top_k or sampling.top_p < 1.0:
        places = _likeliest(odds, sampling)
        odds = odds[places]
    sums = np.cumsum(odds, dtype=np.float64)
    share = chance(sampling.seed or 0, index) * sums[-1]
    place = min(int(np.searchsorted(sums, share, side="right")), len(sums) - 1)
    return place if places is None else int(places[place])


def _likeliest(odds: Any, sampling: Sampling) -> Any:  # noqa: ANN401 - numpy's
    """Return the top_k likeliest tokens, and of these so many as make top_p together."""
    import numpy as np  # noqa: PLC0415 - heavy

    count = sampling.top_k or len(odds)
    whole = odds.sum(dtype=np.float64)
    for floor in _FLOORS:
        places = np.flatnonzero(odds > floor)
        found = odds[places]
        if floor == 0.0 or len(places) >= count:
            break
        if not sampling.top_k and found.sum(dtype=np.float64) >= sampling.top_p * whole:
            break
    order = np.argsort(-found, kind="stable")[:count]
    kept = found[order].astype(np.float64)
    sums = np.cumsum(kept)
    total = sums[-1] if sampling.top_k else whole
    # A token stays if those before it do not make up top_p: the first always does.
    return places[order[sums - kept < sampling.top_p * total]]


def _logprob(logits: Any, token_id: TokenId) -> float:  # noqa: ANN401 - numpy's
    import numpy as np  # noqa: PLC0415 - heavy

    most = logits.max()
    return float(logits[token_id] - most - np.log(np.exp(logits - most).sum(dtype=np.float64)))
