"""Adapters that come, go and change their names while sequences use them."""

import pytest

from forebay.engine.protocol import CannotLoad, Refused
from forebay.engines.named_adapters import NamedAdapters


class Shelf(NamedAdapters[str]):
    """Adapters that only have names."""

    def __init__(self) -> None:
        super().__init__(engine="some", count_max=2)
        self.dropped: list[str] = []

    def load(self, name: str, adapter: str) -> None:
        self._require_room(name)
        self._give(name, adapter)

    def _drop(self, adapter: str) -> None:
        self.dropped.append(adapter)


def test_whoever_names_none_has_none_and_an_unknown_one_is_refused_with_those_there_are() -> None:
    shelf = Shelf()
    assert shelf.take("") is None
    with pytest.raises(Refused, match=r"no such adapter here\. Loaded: none"):
        shelf.take("a")
    shelf.load("b", "one")
    shelf.load("a", "two")
    with pytest.raises(Refused, match="Loaded: a, b"):
        shelf.take("c")
    assert shelf.names() == ["a", "b"]


def test_one_that_nobody_uses_goes_at_once() -> None:
    shelf = Shelf()
    shelf.load("a", "one")
    shelf.unload("a")
    shelf.unload("a")
    assert shelf.dropped == ["one"]
    assert shelf.kept == 0


@pytest.mark.parametrize("how", ["unloaded", "replaced"])
def test_one_that_is_used_goes_with_the_last_who_uses_it_and_nobody_new_gets_it(how: str) -> None:
    shelf = Shelf()
    shelf.load("a", "one")
    users = [shelf.take("a"), shelf.take("a")]
    assert users == ["one", "one"]
    shelf.unload("a")
    if how == "replaced":
        shelf.load("a", "two")
        assert shelf.take("a") == "two"
    else:
        with pytest.raises(Refused):
            shelf.take("a")
    assert shelf.kept == (2 if how == "replaced" else 1)
    shelf.give_back("one")
    assert not shelf.dropped
    shelf.give_back("one")
    assert shelf.dropped == ["one"]


def test_one_that_has_its_name_stays_without_users() -> None:
    shelf = Shelf()
    shelf.load("a", "one")
    shelf.take("a")
    shelf.give_back("one")
    assert not shelf.dropped
    assert shelf.take("a") == "one"


def test_there_are_no_more_names_than_may_be_and_a_name_can_be_given_anew() -> None:
    shelf = Shelf()
    shelf.load("a", "one")
    shelf.load("b", "two")
    with pytest.raises(CannotLoad, match=r"2 adapters are loaded, which is some\.adapters_max"):
        shelf.load("c", "three")
    shelf.load("b", "three")
    assert shelf.dropped == ["two"]
