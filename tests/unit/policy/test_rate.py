"""Rates as people write them."""

import pytest

from forebay.core.caller import Rate
from forebay.policy.rate import parse_rate, shown_rate


@pytest.mark.parametrize(
    ("text", "amount", "period_s"),
    [
        ("5/minute", 5, 60.0),
        (" 100 per hour ", 100, 3_600.0),
        ("7/S", 7, 1.0),
        ("250_000/2 minutes", 250_000, 120.0),
        ("3/days", 3, 86_400.0),
    ],
)
def test_a_rate_is_read_as_people_write_it(text: str, amount: int, period_s: float) -> None:
    assert parse_rate(text) == Rate(amount=amount, period_s=period_s)


def test_no_text_is_no_limit() -> None:
    assert parse_rate("  ") is None


@pytest.mark.parametrize(
    "text",
    ["5", "5/moon", "0/s", "-1/s", "5/0 s", "1/40 days", "9" * 15 + "/s", "5/minute x", "/s"],
)
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 5/minute"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["5/minute", "9/second", "1/day", "8/2 hours", "7/90 seconds"])
def test_a_rate_is_written_as_it_is_read(text: str) -> None:
    rate = parse_rate(text)
    assert rate is not None
    assert parse_rate(shown_rate(rate)) == rate
