"""What models cost, one section each: `prices.NAME.prompt`, `prices.NAME.completion`.

Money is an integer of nano-units of one currency, so that sums are exact.  A price is decimal
text, per million tokens, as providers publish it; a thousandth of the unit per million tokens is
one nano per token, and finer prices are refused instead of rounded.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from forebay.core.knob import knob

NANOS: Final = 1_000_000_000
"""Nano-units in one unit of the currency."""
PRICES: Final = "prices"
UNIT_MAX: Final = 1_000_000
"""Highest price of a million tokens, in units: what one request costs stays within 64 bits."""

_PRICE: Final = re.compile(r"([0-9]{1,7})(?:\.([0-9]{1,12}))?")
_MONEY: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?")
_FORM: Final = f"a decimal number from 0 to {UNIT_MAX}, such as 0.15"
_PLACES: Final = 3
"""Digits after the point of a price per million: 10^9 nanos / 10^6 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceConfig:
    """What one model costs; a version NAME:VERSION without a price costs as its NAME."""

    prompt: str = knob("0", "Price of a million prompt tokens, as in 0.15.")
    completion: str = knob("0", "Price of a million completion tokens, as in 0.60.")


def parse_price(text: str) -> int:
    """Return nanos per token of a price per million; raises ValueError with what is taken."""
    parts = _PRICE.fullmatch(text.strip())
    if parts is None or int(parts[1]) > UNIT_MAX:
        raise ValueError(f"expected {_FORM}")
    fraction = (parts[2] or "").rstrip("0")
    if len(fraction) > _PLACES:
        raise ValueError(f"expected {_FORM}, with at most {_PLACES} places after the point")
    return int(parts[1]) * 10**_PLACES + int(fraction.ljust(_PLACES, "0"))


def parse_money(text: str) -> int:
    """Return the nanos of an amount of money; raises ValueError with what is taken."""
    parts = _MONEY.fullmatch(text.strip())
    if parts is None:
        raise ValueError("expected a decimal number such as 25.50, at most 9 places each side")
    return int(parts[1]) * NANOS + int((parts[2] or "").ljust(9, "0"))


def shown_money(nanos: int) -> str:
    """Write an amount exactly, with two places or as many as it needs: `0.00015`, `25.50`."""
    units, rest = divmod(nanos, NANOS)
    return f"{units}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Nanos per token of each kind."""

    prompt: int
    completion: int

    def of(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Return what so many tokens cost, in nanos."""
        return prompt_tokens * self.prompt + completion_tokens * self.completion


FREE: Final = Price(prompt=0, completion=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The price of each model by its name."""

    by_model: Mapping[str, Price] = field(default_factory=dict)

    def find(self, model: str) -> Price | None:
        """Return a model's price, or that of the model that it is a version of; None: it has none.

        A version has its own price only where one is set.
        """
        price = self.by_model.get(model)
        return price if price is not None else self.by_model.get(model.partition(":")[0])


def prices_of(configs: Mapping[str, PriceConfig]) -> Prices:
    """Return the prices that sections say; they have passed `mispriced`."""
    return Prices(
        by_model={
            name: Price(prompt=parse_price(each.prompt), completion=parse_price(each.completion))
            for name, each in configs.items()
        }
    )


def mispriced(configs: Mapping[str, PriceConfig], known: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the key of each wrong price and what is wrong; `known`: names that can be asked for.

    A price of a model that is not served would be a misspelling that makes another one free.
    """
    for name, config in configs.items():
        for part, text in (("prompt", config.prompt), ("completion", config.completion)):
            try:
                parse_price(text)
            except ValueError as error:
                yield f"{PRICES}.{name}.{part}", f"{text[:40]!r}: {error}."
        if name not in known:
            shown = ", ".join(sorted(known)[:20]) or "none"
            yield f"{PRICES}.{name}.prompt", f"there is no model {name[:60]!r}. There is {shown}."
