import asyncio
from contextlib import aclosing

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import (
    Conflict,
    DeadlineExceeded,
    Draining,
    Gone,
    Overloaded,
)
from forebay.core.request import Admitted, Delta, Events, Finished, Request, Scheduled, Source
from forebay.serve.replay import Replay
from forebay.serve.replay_config import ReplayConfig
from forebay.serve.store import MemoryStore, Wish
from tests.support.generations import (
    Generations,
    begun_of,
    eventually,
    keyed,
    outcome,
    read,
    shown,
    source_of,
    text_of,
)


async def test_a_key_s_answer_is_replayed_with_its_first_name(
    replay: Replay, made: Generations
) -> None:
    first = await read(replay.attach(keyed("a"), made))
    second = await read(replay.attach(keyed("other"), made))
    assert len(made.asked) == 1
    assert source_of(first) is Source.ENGINE
    assert source_of(second) is Source.REPLAYED
    assert shown(first) == shown(second)
    name, again = begun_of(first), begun_of(second)
    assert (again.completion_id, again.created) == (name.completion_id, name.created)
    assert name.resumable
    assert again.resumable


async def test_duplicates_that_come_at_once_share_one_generation(
    replay: Replay, made: Generations
) -> None:
    answers = await asyncio.gather(
        *(read(replay.attach(keyed(f"{index}"), made)) for index in range(5))
    )
    assert len(made.asked) == 1
    assert [source_of(events) for events in answers] == [Source.ENGINE] + [Source.JOINED] * 4
    assert all(shown(events) == shown(answers[0]) for events in answers)
    assert {begun_of(events).completion_id for events in answers} == {"chatcmpl-0"}


async def test_who_joins_has_no_stations_of_the_first_one(
    replay: Replay, made: Generations
) -> None:
    first, second = await asyncio.gather(
        read(replay.attach(keyed("a"), made)), read(replay.attach(keyed("b"), made))
    )
    assert any(isinstance(event, Admitted | Scheduled) for event in first)
    assert not any(isinstance(event, Admitted | Scheduled) for event in second)


async def test_a_key_stands_for_one_request(replay: Replay, made: Generations) -> None:
    await read(replay.attach(keyed(), made))
    with pytest.raises(Conflict) as refusal:
        await read(replay.attach(keyed(sampling=keyed(tokens_max=7).sampling), made))
    assert refusal.value.status == 422
    assert refusal.value.param == "Idempotency-Key"
    for facts in ({"stream": False}, {"shape": "usage"}):
        assert await outcome(replay.attach(keyed(**facts), made)) == "Conflict"
    assert len(made.asked) == 1


async def test_a_key_stands_for_its_request_to_whichever_model_a_route_leads(
    replay: Replay, made: Generations
) -> None:
    first = await read(replay.attach(keyed("a", model="old", via="chat"), made))
    again = await read(replay.attach(keyed("b", model="new", via="chat"), made))
    assert shown(first) == shown(again)
    assert await outcome(replay.attach(keyed("c", model="new"), made)) == "Conflict"
    assert len(made.asked) == 1


async def test_a_key_that_runs_stands_for_one_request_too(
    replay: Replay, made: Generations
) -> None:
    right, wrong = await asyncio.gather(
        outcome(replay.attach(keyed("a"), made)),
        outcome(replay.attach(keyed("b", shape="usage"), made)),
    )
    assert (right, wrong) == ("1.0 1.1 1.2 ", "Conflict")


async def test_a_wrong_request_beside_a_right_one_does_not_spoil_it(
    replay: Replay, made: Generations
) -> None:
    await read(replay.attach(keyed(), made))
    wrong, right = await asyncio.gather(
        outcome(replay.attach(keyed("w", shape="usage"), made)),
        outcome(replay.attach(keyed("r"), made)),
    )
    assert (wrong, right) == ("Conflict", "1.0 1.1 1.2 ")


async def test_the_same_key_of_two_tenants_or_routes_is_two(
    replay: Replay, made: Generations
) -> None:
    mine = await read(replay.attach(keyed("a", tenant="mine"), made))
    yours = await read(replay.attach(keyed("b", tenant="yours"), made))
    assert len(made.asked) == 2
    assert text_of(mine) != text_of(yours)


async def test_a_failure_is_raised_in_every_reader_and_not_kept(
    replay: Replay, made: Generations
) -> None:
    made.failures.append(Overloaded("full", retry_after_s=7.0, ticket="t"))
    tasks = [asyncio.create_task(read(replay.attach(keyed(f"{i}"), made))) for i in range(3)]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, Overloaded) for error in errors)
    assert [getattr(error, "retry_after_s", 0) for error in errors] == [7.0] * 3
    assert [getattr(error, "ticket", 0) for error in errors] == ["t"] * 3
    assert len({id(error) for error in errors}) == 3
    assert await outcome(replay.attach(keyed(), made)) == "2.0 2.1 2.2 "
    assert len(made.asked) == 2


async def test_a_defect_is_raised_in_every_reader(replay: Replay, made: Generations) -> None:
    made.failures.append(ZeroDivisionError())
    tasks = [asyncio.create_task(read(replay.attach(keyed(f"{i}"), made))) for i in range(2)]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2


async def test_the_first_client_may_leave_while_others_read(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    first = asyncio.create_task(read(replay.attach(keyed("a"), made)))
    second = asyncio.create_task(read(replay.attach(keyed("b"), made)))
    await eventually(lambda: made.held == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    made.gate.set()
    assert text_of(await second) == "1.0 1.1 1.2 "


async def test_a_key_s_generation_goes_on_for_a_while_without_readers(
    replay: Replay, made: Generations
) -> None:
    async with aclosing(replay.attach(keyed("a"), made)) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    assert made.held == 1
    await eventually(lambda: made.finished == 1)
    events_again = await read(replay.attach(keyed("b"), made))
    assert text_of(events_again) == "1.0 1.1 1.2 "
    assert len(made.asked) == 1


async def test_a_key_that_waits_for_a_place_waits_no_longer_than_its_reader(
    replay: Replay,
) -> None:
    left = asyncio.Event()

    async def waiting(_: Request) -> Events:
        try:
            await asyncio.Event().wait()
            yield Admitted()
        finally:
            left.set()

    task = asyncio.create_task(read(replay.attach(keyed("a"), waiting)))
    await eventually(lambda: "lease" in {held.kind for held in replay.holdings()})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(left.wait(), 1.0)


async def test_a_key_s_generation_ends_when_nobody_comes_back(made: Generations) -> None:
    replay = Replay(ReplayConfig(linger_s=0.02))
    made.gate.clear()
    reader = asyncio.create_task(read(replay.attach(keyed(), made)))
    await eventually(lambda: made.held == 1)
    reader.cancel()
    await asyncio.sleep(0.005)
    assert made.held == 1
    await eventually(lambda: made.held == 0)
    made.gate.set()
    assert await outcome(replay.attach(keyed(), made)) == "2.0 2.1 2.2 "


async def test_events_closed_before_the_first_start_nothing(
    replay: Replay, made: Generations
) -> None:
    await replay.attach(keyed(), made).aclose()
    assert not made.asked
    assert not list(replay.holdings())


async def test_who_will_not_wait_is_refused_while_it_runs_and_not_after(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    first = asyncio.create_task(read(replay.attach(keyed("a", attach=False), made)))
    await eventually(lambda: made.held == 1)
    with pytest.raises(Conflict) as refusal:
        await read(replay.attach(keyed("b", attach=False), made))
    assert refusal.value.status == 409
    assert refusal.value.retry_after_s is not None
    made.gate.set()
    assert text_of(await first) == text_of(
        await read(replay.attach(keyed("c", attach=False), made))
    )


async def test_a_reader_s_own_deadline_ends_its_reading_alone(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    patient = asyncio.create_task(read(replay.attach(keyed("a"), made)))
    await eventually(lambda: made.held == 1)
    with pytest.raises(DeadlineExceeded):
        await read(replay.attach(keyed("b", deadline=MONOTONIC() + 0.01), made))
    assert made.held == 1
    made.gate.set()
    assert text_of(await patient) == "1.0 1.1 1.2 "


async def test_who_has_more_time_than_the_first_one_begins_anew(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    hurried = asyncio.create_task(
        outcome(replay.attach(keyed("a", deadline=MONOTONIC() + 0.02), made))
    )
    await eventually(lambda: made.held == 1)
    patient = asyncio.create_task(read(replay.attach(keyed("b"), made)))
    assert await hurried == "DeadlineExceeded"
    await eventually(lambda: len(made.asked) == 2)
    made.gate.set()
    events = await patient
    assert text_of(events) == "2.0 2.1 2.2 "
    assert source_of(events) is Source.ENGINE


async def test_a_stop_ends_every_reader_with_an_error(made: Generations) -> None:
    replay = Replay()
    made.gate.clear()
    tasks = [asyncio.create_task(read(replay.attach(keyed(f"{i}"), made))) for i in range(3)]
    await eventually(lambda: made.held == 1)
    await replay.stop()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(error) for error in errors] == [Draining] * 3
    assert made.held == 0


async def test_a_flight_whose_task_is_cancelled_ends_its_readers(made: Generations) -> None:
    replay = Replay()
    made.gate.clear()
    reader = asyncio.create_task(read(replay.attach(keyed(), made)))
    await eventually(lambda: made.held == 1)
    for flight in tuple(replay._flying):
        flight.task.cancel()
    with pytest.raises(Draining):
        await reader
    made.gate.set()
    assert await outcome(replay.attach(keyed(), made)) == "2.0 2.1 2.2 "


async def test_a_key_may_be_used_again_after_its_time(made: Generations) -> None:
    replay = Replay(ReplayConfig(ttl_s=1.0), now=lambda: MONOTONIC() * 50.0)
    await read(replay.attach(keyed(), made))
    await asyncio.sleep(0.03)
    events = await read(replay.attach(keyed("b", shape="usage"), made))
    assert source_of(events) is Source.ENGINE
    assert len(made.asked) == 2


async def test_the_end_is_shown_only_when_the_answer_is_kept(made: Generations) -> None:
    class Slow(MemoryStore):
        async def finish(self, wish: Wish, blob: bytes) -> bool:
            await asyncio.sleep(0.01)
            return await super().finish(wish, blob)

    store = Slow(MONOTONIC, bytes_max=1_000_000, entries_max=100)
    replay = Replay(store=store)
    async with aclosing(replay.attach(keyed(), made)) as events:
        async for event in events:
            kept = store.bytes_kept > 0
            assert kept or not isinstance(event, Finished)
    assert kept


async def test_a_reader_that_leaves_while_the_answer_is_being_kept_loses_nothing(
    made: Generations,
) -> None:
    keeping = asyncio.Event()
    go_on = asyncio.Event()

    class Slow(MemoryStore):
        async def finish(self, wish: Wish, blob: bytes) -> bool:
            keeping.set()
            await go_on.wait()
            return await super().finish(wish, blob)

    store = Slow(MONOTONIC, bytes_max=1_000_000, entries_max=100)
    replay = Replay(ReplayConfig(linger_s=0.0), store=store)
    reader = asyncio.create_task(read(replay.attach(keyed(), made)))
    await keeping.wait()
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    go_on.set()
    events = await read(replay.attach(keyed("b"), made))
    assert text_of(events) == "1.0 1.1 1.2 "
    assert len(made.asked) == 1


async def test_beyond_the_most_flights_a_key_is_refused_and_nothing_is_begun(
    made: Generations,
) -> None:
    replay = Replay(ReplayConfig(flights_max=1))
    made.gate.clear()
    first = asyncio.create_task(read(replay.attach(keyed("a", key="a"), made)))
    await eventually(lambda: made.held == 1)
    with pytest.raises(Overloaded):
        await read(replay.attach(keyed("b", key="b"), made))
    made.gate.set()
    await first
    assert await outcome(replay.attach(keyed("b", key="b"), made)) == "2.0 2.1 2.2 "


async def test_what_is_held_is_listed(replay: Replay, made: Generations) -> None:
    made.gate.clear()
    tasks = [asyncio.create_task(read(replay.attach(keyed(f"{i}"), made))) for i in range(2)]
    await eventually(lambda: made.held == 1)
    kinds = sorted(holding.kind for holding in replay.holdings())
    assert kinds == ["flight", "lease", "reader", "reader"]
    assert {holding.owner for holding in replay.holdings()} == {"chatcmpl-0"}
    made.gate.set()
    await asyncio.gather(*tasks)
    await eventually(lambda: not list(replay.holdings()))


async def test_switched_off_a_key_means_nothing(made: Generations) -> None:
    replay = Replay(ReplayConfig(enabled=False))
    assert await outcome(replay.attach(keyed("a"), made)) == "1.0 1.1 1.2 "
    assert await outcome(replay.attach(keyed("b"), made)) == "2.0 2.1 2.2 "


async def test_switched_off_nothing_is_gone_on_with(made: Generations) -> None:
    replay = Replay(ReplayConfig(enabled=False))
    with pytest.raises(Gone):
        replay.attach(keyed("a", resume_after=1, stream=True), made)
    assert not made.asked


async def test_a_stop_waits_until_the_keys_are_given_back(made: Generations) -> None:
    given_back = False

    class Slow(MemoryStore):
        async def abandon(self, wish: Wish) -> None:
            nonlocal given_back
            await asyncio.sleep(0.01)
            given_back = True

        async def close(self) -> None:
            assert given_back

    store = Slow(MONOTONIC, bytes_max=1_000_000, entries_max=100)
    replay = Replay(ReplayConfig(linger_s=0.0), store=store)
    made.gate.clear()
    reader = asyncio.create_task(read(replay.attach(keyed(), made)))
    await eventually(lambda: made.held == 1)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await replay.stop()
    assert given_back
