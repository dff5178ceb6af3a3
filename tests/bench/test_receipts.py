"""The measurement of receipts still runs, and says which agree with the client's clock."""

from typing import Any

import pytest

from benchmarks import receipts


@pytest.mark.slow
def test_the_receipts_benchmark_measures_and_reports() -> None:
    result = receipts.run(requests=60)
    assert [each["connections"] for each in result["rounds"]] == list(receipts.CONNECTIONS)
    for each in result["rounds"]:
        assert len(each["missing_ms"]) == 60
        assert sum(count for count, _ in each["kinds"].values()) == 60
        assert {"whole", "stream", "cached"} <= each["kinds"].keys()
    assert all(0.0 < cost < 100.0 for cost in result["costs_us"].values())
    assert "The worst:" in receipts.report(result)


def a_request(**facts: Any) -> dict[str, Any]:
    return {"wall_ms": 50.0, "missing_ms": 0.0, "coreless_ms": 0.0} | facts


@pytest.mark.parametrize(
    ("missing_ms", "coreless_ms", "lacked"),
    [(5.0, 4.0, True), (5.0, 2.5, False), (-5.0, 4.0, True), (-5.0, 0.0, False)],
)
def test_what_was_waited_for_a_core_is_known_from_what_was_not(
    missing_ms: float, coreless_ms: float, lacked: bool
) -> None:
    one = a_request(missing_ms=missing_ms, coreless_ms=coreless_ms)
    assert receipts._lacked_a_core(one) is lacked
