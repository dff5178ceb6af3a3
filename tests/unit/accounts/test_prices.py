import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.accounts.prices import (
    NANOS,
    UNIT_MAX,
    Price,
    PriceConfig,
    Prices,
    mispriced,
    parse_money,
    parse_price,
    prices_of,
    shown_money,
)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("0.15", 150),
        ("0.6", 600),
        ("2.500", 2_500),
        ("2.500000", 2_500),
        (" 10 ", 10_000),
        ("0.001", 1),
        (str(UNIT_MAX), UNIT_MAX * 1_000),
    ],
)
def test_a_price_per_million_is_exact_nanos_per_token(text: str, nanos: int) -> None:
    assert parse_price(text) == nanos
    # A million tokens cost exactly what the text says.
    assert parse_price(text) * 1_000_000 == round(float(text) * NANOS)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", ".5", "5.", "1e3", "1,5", "NaN", "inf", "0x10", "٣", "1 000", "$5", "1000001"],
)
def test_what_is_no_price_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"a decimal number from 0 to 1000000, such as 0\.15"):
        parse_price(text)


def test_a_price_finer_than_a_nano_per_token_is_refused_and_not_rounded() -> None:
    with pytest.raises(ValueError, match="at most 3 places"):
        parse_price("0.0375")


@given(st.integers(0, 10**18 - 1))
def test_money_is_read_back_as_it_was_shown(nanos: int) -> None:
    assert parse_money(shown_money(nanos)) == nanos


@pytest.mark.parametrize(
    ("nanos", "shown"),
    [(0, "0.00"), (1, "0.000000001"), (150_000, "0.00015"), (25_500_000_000, "25.50")],
)
def test_money_is_shown_exactly(nanos: int, shown: str) -> None:
    assert shown_money(nanos) == shown


@pytest.mark.parametrize("text", ["", "-5", "5.", "1.0000000001", "1e3", "10000000000", "five"])
def test_what_is_no_money_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a decimal number such as 25"):
        parse_money(text)


def test_both_kinds_of_tokens_have_their_price() -> None:
    prices = prices_of({"chat": PriceConfig(prompt="0.15", completion="0.60")})
    assert prices.find("chat") == Price(prompt=150, completion=600)
    assert Price(prompt=150, completion=600).of(1_000, 10) == 156_000


def test_a_version_costs_as_its_model_unless_it_has_a_price_of_its_own() -> None:
    base, own = Price(prompt=1, completion=2), Price(prompt=3, completion=4)
    prices = Prices(by_model={"chat": base, "chat:dear": own})
    assert prices.find("chat:polite") == base
    assert prices.find("chat:dear") == own
    assert prices.find("other") is None


def test_every_wrong_price_is_named_by_its_key() -> None:
    configs = {
        "chat": PriceConfig(prompt="free", completion="0.0001"),
        "chta": PriceConfig(prompt="1", completion="1"),
    }
    found = dict(mispriced(configs, {"chat"}))
    assert set(found) == {"prices.chat.prompt", "prices.chat.completion", "prices.chta.prompt"}
    assert "'free'" in found["prices.chat.prompt"]
    assert found["prices.chta.prompt"] == "there is no model 'chta'. There is chat."


def test_good_prices_are_not_complained_of() -> None:
    assert not list(mispriced({"chat": PriceConfig(prompt="0.15", completion="0")}, {"chat"}))
