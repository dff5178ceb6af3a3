import pytest

from forebay.core.errors import Outcome
from forebay.telemetry.sampling import Kept, kept, limit_of


def why(*outcomes: Outcome, lasted_s: float = 1.0, sampled: bool = False) -> Kept | None:
    return kept(outcomes, lasted_s, sampled=sampled, slow_s=30.0)


@pytest.mark.parametrize(
    "outcome",
    [
        *(Outcome.OVERLOADED, Outcome.EXPIRED, Outcome.DRAINING, Outcome.TIMED_OUT),
        *(Outcome.ENGINE_ERROR, Outcome.INTERNAL_ERROR),
    ],
)
def test_what_went_wrong_by_our_fault_is_kept_whatever_the_share_says(outcome: Outcome) -> None:
    assert why(outcome) is Kept.FAULT


@pytest.mark.parametrize(
    "outcome", [Outcome.OK, Outcome.INVALID, Outcome.RATE_LIMITED, Outcome.CANCELLED]
)
def test_what_a_caller_did_wrong_is_kept_by_share_alone(outcome: Outcome) -> None:
    assert why(outcome) is None
    assert why(outcome, sampled=True) is Kept.SHARE


def test_what_was_slow_is_kept() -> None:
    assert why(Outcome.OK, lasted_s=29.9) is None
    assert why(Outcome.OK, lasted_s=30.0) is Kept.SLOW


def test_one_request_of_a_batch_that_failed_keeps_the_whole() -> None:
    assert why(Outcome.OK, Outcome.ENGINE_ERROR, Outcome.OK) is Kept.FAULT


def test_the_share_is_that_of_opentelemetry() -> None:
    from opentelemetry.sdk.trace.sampling import (  # noqa: PLC0415 - the library is optional
        Decision,
        TraceIdRatioBased,
    )

    for ratio in (0.0, 0.01, 0.3, 1.0):
        theirs = TraceIdRatioBased(ratio)
        for id in (1, 2**62, 2**63, 2**64 - 1, 2**64 + 5, 0xABCDEF << 90 | 2**57, 2**128 - 1):
            says = theirs.should_sample(None, id, "name").decision is Decision.RECORD_AND_SAMPLE
            assert (id & (2**64 - 1) < limit_of(ratio)) is says, (ratio, id)
