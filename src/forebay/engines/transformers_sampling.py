"""From logits to tokens in torch, for many sequences at once, each with its own wishes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from forebay.core.request import Sampling, TokenId
from forebay.engines.logit_rules import chance, penalties
from forebay.engines.sampling_bounds import TEMPERATURE_MIN

_CANDIDATES: Final = 64
"""Most nuclei are smaller; larger ones are looked for in steps of `_CANDIDATES_FACTOR`."""
_CANDIDATES_FACTOR: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How one token is chosen."""

    sampling: Sampling
    made: Sequence[TokenId]
    """The answer so far."""
    banned: Sequence[TokenId] = ()
    """Tokens that it must not be."""
    allowed: Any = None
    """Where there is a grammar: True per token that it may be, in a tensor."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One token per wish; None where the model's numbers are not finite."""

    token_ids: list[TokenId | None]
    logprobs: list[float]
    """The model's own, whatever the temperature; empty if nobody asked."""


def choose(logits: Any, wishes: Sequence[Wish]) -> Chosen:  # noqa: ANN401 - torch's
    """Choose a token for each row of `logits`, [wishes, vocabulary]."""
    import torch  # noqa: PLC0415 - heavy

    logits = logits.float()
    scores = _adjusted(logits, wishes)
    best = scores.max(dim=-1)
    chosen = best.indices
    drawn = [
        row
        for row, wish in enumerate(wishes)
        if wish.sampling.temperature >= TEMPERATURE_MIN and wish.sampling.top_k != 1
    ]
    if drawn:
        rows = torch.tensor(drawn, device=logits.device)
        chosen = chosen.index_copy(0, rows, _draw(scores[rows], [wishes[row] for row in drawn]))
    # A NaN anywhere in a row is its maximum.
    whole = best.values.isfinite().tolist()
    token_ids = [
        token if fine else None for token, fine in zip(chosen.tolist(), whole, strict=True)
    ]
    if not any(wish.sampling.logprobs for wish in wishes):
        return Chosen(token_ids, [])
    own = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(dim=-1)
    return Chosen(token_ids, own.tolist())


def _adjusted(logits: Any, wishes: Sequence[Wish]) -> Any:  # noqa: ANN401 - torch's
    """Return the logits after penalties and bans; the given ones stay as they are."""
    import torch  # noqa: PLC0415 - heavy

    scores = logits
    for row, wish in enumerate(wishes):
        falls = penalties(wish.made, wish.sampling)
        if not falls and not wish.banned and wish.allowed is None:
            continue
        if scores is logits:
            scores = logits.clone()
        if falls:
            tokens = torch.tensor(list(falls), device=logits.device)
            scores[row, tokens] -= torch.tensor(list(falls.values()), device=logits.device)
        if wish.banned:
            scores[row, list(wish.banned)] = float("-inf")
        if wish.allowed is not None:
            scores[row].masked_fill_(~wish.allowed, float("-inf"))
    return scores


def _draw(scores: Any, wishes: Sequence[Wish]) -> Any:  # noqa: ANN401 - torch's
    """Draw a token for each row."""
    import torch  # noqa: PLC0415 - heavy

    def column(values: Sequence[float]) -> Any:  # noqa: ANN401 - torch's
        return torch.tensor(values, dtype=torch.float32, device=scores.device)[:, None]

    how = [wish.sampling for wish in wishes]
    odds = torch.softmax(scores / column([one.temperature for one in how]), dim=-1)
    if any(one.min_p for one in how):
        least = column([one.min_p for one in how]) * odds.amax(dim=-1, keepdim=True)
        odds = odds.masked_fill(odds < least, 0.0)
    drawn = column([chance(wish.sampling.seed or 0, len(wish.made)) for wish in wishes])
    narrow = [row for row, one in enumerate(how) if one.top_k or one.top_p < 1.0]
    if not narrow:
        return _pick(odds, drawn)
    rows = torch.tensor(narrow, device=scores.device)
    some = [how[row] for row in narrow]
    found = _draw_narrow(odds[rows], drawn[rows], some)
    if len(narrow) == len(how):
        return found
    return _pick(odds, drawn).index_copy(0, rows, found)


def _draw_narrow(odds: Any, drawn: Any, how: Sequence[Sampling]) -> Any:  # noqa: ANN401 - torch's
    """Draw from the likeliest: top_k of them, and of these so many as make top_p together."""
    import torch  # noqa: PLC0415 - heavy

    size = odds.shape[-1]
    ranks = [min(one.top_k or size, size) for one in how]
    limit = torch.tensor(ranks, device=odds.device)[:, None]
    share = torch.tensor([one.top_p for one in how], device=odds.device)[:, None]
    count = min(size, max(_CANDIDATES, *(rank for rank in ranks if rank < size), 0))
    while True:
        likeliest = odds.topk(count, dim=-1)
        inside = torch.arange(count, device=odds.device) < limit
        kept = likeliest.values * inside
        sums = kept.cumsum(dim=-1, dtype=torch.float64)
        # The sum of all that top_k leaves; beyond the candidates only where there is no top_k.
        whole = torch.where(limit < size, sums[:, -1:], odds.sum(dim=-1, keepdim=True).double())
        enough = (sums[:, -1:] >= share * whole) | (limit <= count)
        if count == size or bool(enough.all()):
            break
        count = min(size, count * _CANDIDATES_FACTOR)
    # A token stays if those before it do not make up top_p: the first always does.
    kept = kept * (sums - kept < share * whole)
    place = _pick(kept, drawn)
    return likeliest.indices.gather(1, place[:, None])[:, 0]


def _pick(odds: Any, drawn: Any) -> Any:  # noqa: ANN401 - torch's
    """Return per row the first place at which the sum of odds exceeds the drawn share of all."""
    import torch  # noqa: PLC0415 - heavy

    sums = odds.cumsum(dim=-1, dtype=torch.float64)
    places = torch.searchsorted(sums, drawn.double() * sums[:, -1:], right=True)[:, 0]
    return places.clamp(max=odds.shape[-1] - 1)
