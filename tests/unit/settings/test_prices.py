"""Prices, as files and variables say them."""

from pathlib import Path

import pytest

from forebay.accounts.prices import Price, PriceConfig, prices_of
from forebay.settings import ConfigurationError, Settings, Sources, load


def loaded(folder: Path, text: str = "", *assignments: str) -> Settings:
    file = folder / "forebay.yaml"
    file.write_text(text)
    return load(Sources(file=file, environ={}, assignments=assignments)).settings


def test_a_price_is_text_or_a_number_and_exact_either_way(tmp_path: Path) -> None:
    text = 'prices:\n  chat: {prompt: 0.15, completion: "0.60"}\n  gpt-4.1: {prompt: 2}\n'
    found = prices_of(loaded(tmp_path, text).prices)
    assert found.find("chat") == Price(prompt=150, completion=600)
    assert found.find("gpt-4.1") == Price(prompt=2_000, completion=0)


def test_a_price_may_be_set_beside_the_file(tmp_path: Path) -> None:
    prices = loaded(tmp_path, "", "prices.chat.prompt=0.15").prices
    assert prices == {"chat": PriceConfig(prompt="0.15")}


@pytest.mark.parametrize("price", ["free", "-1", "1e-3", "0.0375", "true", "[1, 2]"])
def test_what_is_no_price_stops_the_start_and_names_the_key(tmp_path: Path, price: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        loaded(tmp_path, f"prices:\n  chat: {{prompt: {price}}}\n")
    assert all("prices.chat.prompt" in each.text for each in wrong.value.problems)


def test_a_price_of_a_model_that_is_not_served_stops_the_start(tmp_path: Path) -> None:
    text = "models:\n  chat: {engine: scripted}\nprices:\n  chta: {prompt: 1}\n"
    with pytest.raises(ConfigurationError, match=r"there is no model 'chta'\. There is chat"):
        loaded(tmp_path, text)
