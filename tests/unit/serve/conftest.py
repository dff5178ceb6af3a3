"""What tests of replay begin with."""

from collections.abc import AsyncIterator

import pytest

from forebay.serve.replay import Replay
from forebay.serve.replay_config import ReplayConfig
from tests.support.bookkeepers import Desk, Keeps
from tests.support.generations import Generations
from tests.support.redis import Said


@pytest.fixture
async def made() -> Generations:
    return Generations()


@pytest.fixture
async def replay() -> AsyncIterator[Replay]:
    """A replay in memory; at the test's end nothing is held."""
    replay = Replay(ReplayConfig(poll_s=0.005))
    yield replay
    await replay.stop()
    assert not list(replay.holdings())


@pytest.fixture
def keeps() -> Keeps:
    return Keeps()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
async def desk(keeps: Keeps, said: Said) -> AsyncIterator[Desk]:
    desk = Desk(keeps, said)
    yield desk
    await desk.close()
