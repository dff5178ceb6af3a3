"""Storms before the real door where most are turned away unread: nothing else may change."""

import pytest

from forebay.core.request import Priority
from tests.support.seeds import seeds
from tests.support.simulated_door import Caller, SimulatedDoor, Stream
from tests.support.simulated_lane import Shape

SHAPE = Shape()
CAPACITY_PER_S = SHAPE.capacity()
WARM_S, STORM_S = 20.0, 30.0
TTFT_S = 2.0


def stormed(seed: int, *streams: Stream, shedding: bool = True) -> list[Caller]:
    """Return who came in a storm of these."""
    door = SimulatedDoor(seed, SHAPE, shedding=shedding)
    door.run(WARM_S, [Stream(per_s=0.7 * CAPACITY_PER_S)])
    door.run(STORM_S, streams)
    return door.seen.between(WARM_S, WARM_S + STORM_S)


def good(callers: list[Caller]) -> int:
    """Return how many had their first token in time."""
    return sum(caller.ttft_s <= TTFT_S for caller in callers)


def test_most_are_refused_unread_and_as_many_are_served_in_time() -> None:
    for seed in seeds(2):
        storm = Stream(per_s=50 * CAPACITY_PER_S)
        read = stormed(seed, storm, shedding=False)
        callers = stormed(seed, storm)
        assert good(callers) >= 0.97 * good(read), f"seed {seed}"
        refused = [caller for caller in callers if caller.outcome == "refused"]
        assert sum(caller.shed for caller in refused) >= 0.75 * len(refused), f"seed {seed}"


@pytest.mark.parametrize("showing", [True, False])
def test_who_was_refused_unread_and_comes_back_when_told_to_is_served(showing: bool) -> None:
    for seed in seeds(2):
        door = SimulatedDoor(seed, SHAPE, shedding=True)
        door.showing = showing
        door.run(WARM_S, [Stream(per_s=0.7 * CAPACITY_PER_S)])
        door.run(STORM_S, [Stream(per_s=20 * CAPACITY_PER_S, returning=0.5)])
        shed = {c.request.body_sign for c in door.seen.callers if c.shed}
        back = [c for c in door.seen.callers if c.back and c.request.body_sign in shed]
        assert len(back) > 30, f"seed {seed}"
        assert good(back) / len(back) >= 0.8, f"seed {seed}"


def test_a_neighbour_is_refused_no_more_often_than_if_all_were_read() -> None:
    for seed in seeds(2):
        streams = (
            Stream(per_s=50 * CAPACITY_PER_S, tenant="noisy"),
            Stream(per_s=0.3 * CAPACITY_PER_S, tenant="quiet"),
        )
        read, quiet = (
            [c for c in stormed(seed, *streams, shedding=way) if c.request.tenant == "quiet"]
            for way in (False, True)
        )
        assert good(quiet) >= good(read) - 1, f"seed {seed}"
        assert sum(caller.shed for caller in quiet) <= len(quiet) - good(read), f"seed {seed}"


def test_batch_waits_although_interactive_requests_are_refused_unread() -> None:
    for seed in seeds(2):
        callers = stormed(
            seed,
            Stream(per_s=50 * CAPACITY_PER_S),
            Stream(per_s=0.05 * CAPACITY_PER_S, priority=Priority.BATCH),
        )
        batch = [c for c in callers if c.request.priority is Priority.BATCH]
        assert not any(caller.shed for caller in batch), f"seed {seed}"
        assert any(caller.outcome in {"present", "served"} for caller in batch), f"seed {seed}"
