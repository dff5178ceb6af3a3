"""Percentiles as everybody computes them by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.bench.stats import median, percentile


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 2), (0.75, 3), (0.99, 4), (1.0, 4)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], share) == value


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.floats(0, 1))
def test_the_share_of_values_at_or_below_a_percentile_is_at_least_asked(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) <= share * len(values)


def test_the_median_of_three_is_the_middle_one() -> None:
    assert median([9.0, 1.0, 2.0]) == 2.0
