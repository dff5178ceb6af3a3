from collections import Counter
from typing import Any

import pytest

from forebay.core.request import Sampling
from forebay.engines.transformers_sampling import Wish, choose

ODDS = (0.4, 0.3, 0.15, 0.1, 0.05)


def drawn(how: dict[str, Any], times: int = 4_000) -> Counter[int]:
    """Draw from five tokens of known odds, each time with another seed."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    wishes = [Wish(sampling=Sampling(seed=seed, **how), made=()) for seed in range(times)]
    logits = torch.tensor(ODDS).log().repeat(times, 1)
    found = choose(logits, wishes).token_ids
    assert None not in found
    return Counter(token for token in found if token is not None)


CASES: list[tuple[dict[str, Any], tuple[float, ...]]] = [
    ({}, ODDS),
    ({"temperature": 0.0}, (1.0,)),
    ({"top_k": 1}, (1.0,)),
    ({"top_k": 2}, (4 / 7, 3 / 7)),
    ({"top_k": 99}, ODDS),
    # 0.4 and 0.3 are 0.7, so it takes a third to make up 0.75.
    ({"top_p": 0.75}, (0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85)),
    ({"top_p": 0.01}, (1.0,)),
    ({"min_p": 0.3}, (0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85)),
    # Of the two likeliest, the first makes up half.
    ({"top_k": 2, "top_p": 0.5}, (1.0,)),
    ({"min_p": 0.3, "top_p": 0.8}, (4 / 7, 3 / 7)),
    ({"temperature": 0.5}, tuple(odds**2 / sum(one**2 for one in ODDS) for odds in ODDS)),
]


@pytest.mark.parametrize(("how", "expected"), CASES, ids=str)
def test_tokens_come_as_often_as_their_odds_say(
    how: dict[str, Any], expected: tuple[float, ...]
) -> None:
    times = 4_000
    counts = drawn(how, times)
    assert set(counts) == set(range(len(expected)))
    for token, odds in enumerate(expected):
        # Five standard deviations of a binomial count are at most 0.04 of all.
        assert counts[token] / times == pytest.approx(odds, abs=0.04)


def test_a_wide_nucleus_is_found_among_many_tokens() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    size = 5_000
    wishes = [Wish(sampling=Sampling(seed=seed, top_p=0.5), made=()) for seed in range(200)]
    logits = torch.linspace(0.0, -1e-3, size).repeat(len(wishes), 1)
    found = [token for token in choose(logits, wishes).token_ids if token is not None]
    assert max(found) < size * 0.51
    assert min(found) < size * 0.1
    assert max(found) > size * 0.4


def test_each_row_is_chosen_by_its_own_wish() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    logits = torch.tensor(ODDS).log().repeat(4, 1)
    logits[3, 2] = float("nan")
    cold = Sampling(temperature=0.0, logprobs=True)
    chosen = choose(
        logits,
        [
            Wish(sampling=cold, made=()),
            Wish(sampling=cold, made=(), banned=(0,)),
            Wish(sampling=Sampling(temperature=0.0, frequency_penalty=2.0), made=(0, 1)),
            Wish(sampling=cold, made=()),
        ],
    )
    assert chosen.token_ids == [0, 1, 2, None]
    own = torch.tensor(ODDS).log().tolist()
    # The model's own: neither bans nor penalties are in them.
    assert chosen.logprobs[:3] == pytest.approx([own[0], own[1], own[2]], abs=1e-5)
