"""A token is drawn as often as its odds say, and never outside of what was wished for."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from forebay.core.request import Sampling

np = pytest.importorskip("numpy", reason="numpy is not installed")
onnx_sampling = pytest.importorskip("forebay.engines.onnx_sampling")


def chosen(logits: Any, *, banned: Sequence[int] = (), made: Sequence[int] = (), **how: Any) -> Any:
    row = np.array(logits, dtype=np.float32)
    (greedy,) = onnx_sampling.best(row[np.newaxis])
    sampling = Sampling(**({"tokens_max": 1, "seed": 1} | how))
    return onnx_sampling.choose(row, greedy, sampling, made=made, banned=banned)


def drawn(odds: Sequence[float], *, times: int = 400, **how: Any) -> Counter[int]:
    logits = np.log(np.array(odds))
    return Counter(chosen(logits, **(how | {"seed": seed})).token_id for seed in range(times))


def test_tokens_come_as_often_as_their_odds_say() -> None:
    counts = drawn([0.5, 0.25, 0.125, 0.125], times=4_000)
    for token, share in enumerate((0.5, 0.25, 0.125, 0.125)):
        assert counts[token] / 4_000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("wish", "tokens"),
    [
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 3, "top_p": 0.9}, {0, 1, 2}),
        ({"top_k": 3, "top_p": 0.5}, {0}),
        ({"min_p": 0.45}, {0, 1}),
        ({"top_p": 1.0}, {0, 1, 2, 3}),
    ],
)
def test_only_what_is_wished_for_is_drawn(wish: dict[str, Any], tokens: set[int]) -> None:
    assert drawn([0.5, 0.25, 0.15, 0.1], **wish).keys() == tokens


def test_a_nucleus_of_many_rare_tokens_is_found_whole() -> None:
    # Half of the odds in one token, the other half in 5,000 of a ten-thousandth each.
    odds = np.array([0.5, *[1e-4] * 5_000])
    counts = drawn(odds, top_p=0.9)
    assert 0.45 < counts[0] / 400 < 0.66
    assert len(counts) > 100
    assert max(counts) <= 4_000 + 1


def test_a_cold_choice_is_greedy_and_a_hot_one_is_not() -> None:
    logits = [0.0, 0.1, 0.2, 0.15]
    assert {chosen(logits, temperature=0.0, seed=seed).token_id for seed in range(50)} == {2}
    assert len({chosen(logits, temperature=5.0, seed=seed).token_id for seed in range(50)}) == 4


def test_banned_tokens_are_never_chosen() -> None:
    assert chosen([5.0, 4.0, 3.0], temperature=0.0, banned=[0]).token_id == 1
    assert set(drawn([0.9, 0.05, 0.05], banned=[0])) == {1, 2}


def test_penalties_count_the_answer_as_openai_does() -> None:
    def greedy(made: Sequence[int], **how: Any) -> int:
        token_id: int = chosen([3.0, 2.0, 1.0], made=made, temperature=0.0, **how).token_id
        return token_id

    assert greedy([0, 0, 0], presence_penalty=0.9) == 0
    assert greedy([0], presence_penalty=1.1) == 1
    assert greedy([0, 0], frequency_penalty=0.4) == 0
    assert greedy([0, 0, 0], frequency_penalty=0.4) == 1
    assert greedy([1], presence_penalty=-1.1) == 1


def test_log_probabilities_are_the_models_own_whatever_was_wished() -> None:
    logits = np.log([0.5, 0.25, 0.25])
    wishes: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 0.3, "top_k": 1},
        {"temperature": 0.0, "presence_penalty": -2.0, "made": [0]},
    ]
    for how in wishes:
        found = chosen(logits, logprobs=True, **how)
        assert found.logprob == pytest.approx(float(np.log(0.5)), abs=1e-6)
    assert chosen(logits).logprob is None


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_fails_alone(wrong: float) -> None:
    rows = np.array([[1.0, 2.0], [wrong, 1.0], [4.0, 3.0]], dtype=np.float32)
    first, broken, last = onnx_sampling.best(rows)
    assert broken is None
    assert (first.token_id, last.token_id) == (1, 0)
