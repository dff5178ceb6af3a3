"""Penalties and chance depend on the answer, and on nothing that runs beside it."""

from collections import Counter

from forebay.core.request import Sampling
from forebay.engines.logit_rules import chance, penalties


def test_chance_is_even_and_differs_by_seed_and_place() -> None:
    drawn = [chance(seed, index) for seed in range(50) for index in range(50)]
    assert len(set(drawn)) == len(drawn)
    assert all(0.0 <= one < 1.0 for one in drawn)
    tenths = Counter(int(one * 10) for one in drawn)
    # 250 each; six standard deviations are 90.
    assert all(160 < tenths[tenth] < 340 for tenth in range(10))
    assert chance(7, 3) == chance(7, 3)


def test_penalties_fall_once_for_presence_and_each_time_for_frequency() -> None:
    how = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    assert penalties([4, 9, 4, 4], how) == {4: 1.25, 9: 0.75}
    assert penalties([4, 9], Sampling()) == {}
