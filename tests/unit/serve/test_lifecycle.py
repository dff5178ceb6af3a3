import asyncio

import pytest

from forebay.core.errors import Draining
from forebay.serve.lifecycle import Lifecycle, State


def a_life(state: State = State.STARTING, *, well: bool = True) -> Lifecycle:
    life = Lifecycle(lambda: well, retry_after_s=3.0)
    life.move(state)
    return life


@pytest.mark.parametrize(
    ("state", "well", "ready"),
    [
        (State.STARTING, True, False),
        (State.READY, True, True),
        (State.READY, False, False),
        (State.DRAINING, True, False),
        (State.STOPPED, True, False),
    ],
)
def test_ready_means_started_well_and_not_draining(
    state: State, *, well: bool, ready: bool
) -> None:
    assert a_life(state, well=well).readiness()[0] is ready


def test_it_never_goes_back() -> None:
    life = a_life(State.DRAINING)
    with pytest.raises(AssertionError):
        life.move(State.READY)


def test_draining_takes_nothing_new_and_says_when_to_return() -> None:
    with pytest.raises(Draining) as refusal, a_life(State.DRAINING).presence():
        pytest.fail("nobody may enter")
    assert refusal.value.retry_after_s == 3.0


async def test_draining_waits_for_the_last_one_present() -> None:
    life = a_life(State.READY)
    with life.presence():
        life.move(State.DRAINING)
        waiting = asyncio.create_task(life.emptied(60.0))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == 0


async def test_the_wait_for_the_last_one_is_bounded() -> None:
    life = a_life(State.READY)
    with life.presence():
        assert await life.emptied(0.001) == 1
