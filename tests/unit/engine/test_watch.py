"""When is a worker lost, and when does the next one come."""

import pytest

from forebay.engine.protocol import EngineInfo
from forebay.engine.watch import Backoff, Patience, Sight, Watch

LOOK_S = 0.25


def a_watch() -> Watch:
    return Watch(0.0, stall_s=2.0, progress_s_max=10.0, look_s_max=2 * LOOK_S)


def a_sight(*, frames: int, tokens: int, busy: bool, patience_s: float = 2.0) -> Sight:
    return Sight(frames=frames, tokens=tokens, busy=busy, patience_s=patience_s)


def looks(watch: Watch, seconds: float, sight_at: dict[str, float], start: float = 0.0) -> float:
    """Look regularly; counters grow by so much a second.  Return when it stalled, or -1."""
    for n in range(1, int(seconds / LOOK_S) + 1):
        passed = n * LOOK_S
        sight = Sight(
            frames=int(sight_at["frames"] * passed),
            tokens=int(sight_at["tokens"] * passed),
            busy=bool(sight_at["busy"]),
            patience_s=2.0,
            share=sight_at.get("share", 1.0),
        )
        if watch.look(start + passed, sight):
            return start + passed
    return -1.0


def test_a_worker_that_talks_is_not_lost() -> None:
    assert looks(a_watch(), 100, {"frames": 8, "tokens": 8, "busy": 1}) == -1


def test_silence_means_lost_busy_or_not() -> None:
    for busy in (0, 1):
        assert looks(a_watch(), 100, {"frames": 0, "tokens": 0, "busy": busy}) == 2.0


def test_silence_without_a_processor_counts_less() -> None:
    starved = {"frames": 0, "tokens": 0, "busy": 1, "share": 0.25}
    assert looks(a_watch(), 100, starved) == 8.0


def test_patience_may_grow_while_it_is_silent_and_shrink_again() -> None:
    watch = a_watch()
    for n in range(1, 13):
        assert not watch.look(n * LOOK_S, a_sight(frames=0, tokens=0, busy=True, patience_s=9.0))
    assert watch.well(3.0)
    assert watch.look(3.25, a_sight(frames=0, tokens=0, busy=True, patience_s=1.0))
    assert not watch.well(3.25)


def an_info(step_s_max: float, step_s_short: float | None) -> EngineInfo:
    return EngineInfo(
        name="e",
        context_tokens_max=9,
        running_max=1,
        supports=frozenset(),
        step_s_max=step_s_max,
        step_s_short=step_s_short,
    )


def test_patience_is_as_long_as_a_step_may_take() -> None:
    patience = Patience(3.0, an_info(10.0, 4.0))
    assert patience.now_s(slow=False, stopped=False) == 4.0
    assert patience.now_s(slow=True, stopped=False) == 10.0
    assert patience.now_s(slow=True, stopped=True) == 1.0
    assert Patience(3.0, an_info(10.0, None)).now_s(slow=False, stopped=False) == 10.0
    assert Patience(3.0, an_info(0.5, 0.5)).now_s(slow=True, stopped=False) == 3.0


def test_an_idle_worker_may_beat_for_ever() -> None:
    assert looks(a_watch(), 1000, {"frames": 4, "tokens": 0, "busy": 0}) == -1


def test_beats_without_tokens_while_work_runs_mean_lost_later() -> None:
    lost = looks(a_watch(), 100, {"frames": 4, "tokens": 0, "busy": 1})
    assert lost == pytest.approx(10.0, abs=2 * LOOK_S)


def test_time_in_which_nobody_looked_is_not_held_against_it() -> None:
    watch = a_watch()
    assert not watch.look(0.25, a_sight(frames=1, tokens=1, busy=True))
    assert not watch.look(60.0, a_sight(frames=1, tokens=1, busy=True))
    assert not watch.look(60.25, a_sight(frames=2, tokens=1, busy=True))


def test_it_is_not_well_while_work_runs_and_no_token_is_made() -> None:
    watch = a_watch()
    for number in range(1, 9):
        sight = a_sight(frames=number, tokens=0, busy=True)
        assert not watch.look(number * 0.5, sight), "it may still recover"
    assert not watch.well(4.0)
    watch.look(4.5, a_sight(frames=9, tokens=1, busy=True))
    assert watch.well(4.5)


def test_it_is_well_until_it_has_been_silent_for_too_long() -> None:
    watch = a_watch()
    assert watch.well(0.4)
    for n in range(1, 7):
        watch.look(n * LOOK_S, a_sight(frames=0, tokens=0, busy=True))
    assert watch.well(1.74)
    assert not watch.well(2.0)
    watch.look(2.0, a_sight(frames=1, tokens=0, busy=True))
    assert watch.well(2.1)


def a_backoff() -> Backoff:
    return Backoff(wait_s_min=0.5, wait_s_max=8.0, calm_s=60.0)


def test_the_first_restart_is_at_once_and_bounds_then_double_up_to_a_limit() -> None:
    backoff = a_backoff()
    assert [backoff.lost(0.0, 1.0) for _ in range(8)] == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_the_wait_is_a_random_share_of_its_bound() -> None:
    backoff = a_backoff()
    backoff.lost(0.0, 0.0)
    assert backoff.lost(0.0, 0.25) == 0.125


def test_a_worker_that_was_ready_for_long_is_replaced_at_once() -> None:
    backoff = a_backoff()
    for _ in range(5):
        backoff.lost(1.0, 1.0)
    assert backoff.lost(60.0, 1.0) == 0.0
    assert backoff.lost(59.0, 1.0) == 0.5


def test_a_thousand_losses_do_not_overflow() -> None:
    backoff = a_backoff()
    assert max(backoff.lost(0.0, 1.0) for _ in range(1_000)) == 8.0
