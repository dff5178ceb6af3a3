"""References of a schema cost no more than there are of them, however they are chained."""

from typing import Any

import pytest

from forebay.engine import json_schema
from forebay.engine.json_schema import SchemaRefused, check


def a_chain(length: int, end: dict[str, Any]) -> dict[str, Any]:
    """Return a schema whose definitions refer to each other, one after another."""
    links = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(length)}
    return {"$defs": links | {f"d{length}": end}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize("length", [400, 1_500])
def test_each_reference_of_a_chain_is_looked_up_once(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, looked_up = json_schema._find, 0

    def counted(*arguments: Any) -> object:
        nonlocal looked_up
        looked_up += 1
        return find(*arguments)

    monkeypatch.setattr(json_schema, "_find", counted)
    try:
        check(a_chain(length, {}))
    except SchemaRefused as error:
        assert "at most" in str(error)
    assert 0 < looked_up <= length + 1


def test_a_chain_that_ends_is_accepted() -> None:
    check(a_chain(20, {"type": "string"}))


def test_a_chain_that_leads_back_to_itself_is_refused() -> None:
    with pytest.raises(SchemaRefused, match="back to itself"):
        check(a_chain(20, {"$ref": "#/$defs/d7"}))


def test_a_chain_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(SchemaRefused, match="and exist"):
        check(a_chain(20, {"$ref": "#/$defs/gone"}))
