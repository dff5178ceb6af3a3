"""Gateways that crash and stall under clients that leave and return: one answer per key."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest

from forebay.core.request import Finished
from forebay.serve.flight import Flight
from forebay.serve.keys import Keys
from forebay.serve.store import Claim, MemoryStore, Running, Wish
from tests.support import simulated_gateways, virtual_time
from tests.support.seeds import seeds
from tests.support.simulated_gateways import Generation, Seen, World

AWAY = ("Overloaded", "Invalid", "Draining")
"""What is told of a stream that only an absent store knows, or by a gateway that is stopping."""
CLIENTS, SECONDS = 30, 20.0


def violations(world: World) -> list[str]:
    """Return every promise that was broken."""
    return list(_violations(world))


def _violations(world: World) -> Iterator[str]:
    if not world.absences:
        yield from one_answer_per_key(world)
        yield from nothing_after_the_answer(world)
    for seen in world.seen:
        yield from one_attempt(seen, world.generations)
    if world.held:
        yield f"{world.held} generations run though all is over"
    for replay in world.replays + world.retired:
        held = [holding.kind for holding in replay.holdings()]
        if held:
            yield f"held at rest: {held}"
        if replay._allowance.bytes_kept or replay._flights or replay._streams:
            yield f"kept at rest: {replay._allowance} {replay._flights} {replay._streams}"
    yield from (f"nobody could read it: {flight}" for flight in world.unread)


def one_answer_per_key(world: World) -> Iterator[str]:
    """Whoever saw the end of a key's answer saw the same one, under the same name."""
    answers: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for seen in world.seen:
        if seen.finished and seen.name is not None:
            answers[seen.key].add((seen.name.completion_id, *seen.texts))
    for key, different in answers.items():
        if len(different) > 1:
            yield f"{key}: {len(different)} answers: {different}"


def nothing_after_the_answer(world: World) -> Iterator[str]:
    """No generation of a key begins once somebody has seen the end of its answer."""
    ends: dict[str, float] = {}
    for seen in world.seen:
        if seen.finished:
            ends[seen.key] = min(seen.ended, ends.get(seen.key, seen.ended))
    for generation in world.generations:
        if generation.began > ends.get(generation.key, generation.began):
            yield f"{generation.key}: made again after its answer was seen"


def one_attempt(seen: Seen, generations: list[Generation]) -> Iterator[str]:
    """What one client is shown is the beginning of one generation, in time, and a true refusal."""
    origins = {text.split(":")[0] for text in seen.texts}
    if len(origins) > 1:
        yield f"{seen.key}: mixed generations {origins}"
    if seen.texts and seen.texts != [f"{min(origins)}:{i}" for i in range(len(seen.texts))]:
        yield f"{seen.key}: torn {seen.texts}"
    if origins and generations[int(min(origins))].key != seen.key:
        yield f"{seen.key}: shown another key's answer"
    before = seen.goes_on_from
    if before is not None and before.texts and seen.texts:
        common = min(len(before.texts), len(seen.texts))
        if before.texts[:common] != seen.texts[:common]:
            yield f"{seen.key}: the beginning of one answer with the end of another"
    if sum(isinstance(event, Finished) for event in seen.events) > 1:
        yield f"{seen.key}: finished twice"
    if seen.ended > seen.deadline + 0.5:
        yield f"{seen.key}: ended {seen.ended - seen.deadline:.1f} s after its deadline"


def overlaps(world: World) -> Iterator[str]:
    """Where no gateway crashes or stalls, a key never has two generations at once."""
    by_key: dict[str, list[Generation]] = defaultdict(list)
    for generation in world.generations:
        by_key[generation.key].append(generation)
    for key, found in by_key.items():
        for before, after in pairwise(found):
            if before.ended is None or before.ended > after.began:
                yield f"{key}: {before} and {after} at once"


async def played(seed: int, **facts: object) -> World:
    world = World(seed, **facts)  # type: ignore[arg-type]  # the tests name real fields
    await world.run(CLIENTS, SECONDS)
    return world


def test_every_key_has_one_answer_whoever_crashes() -> None:
    ends: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for seed in seeds():
        world = virtual_time.run(played(seed))
        found = violations(world)
        assert not found, (seed, found)
        ends.update("ok" if seen.finished else seen.error or "left" for seen in world.seen)
        for replay in world.replays + world.retired:
            counts["taken over"] += replay.counts.taken_over
            counts["fenced"] += replay.counts.fenced
            counts["joined"] += replay.counts.joined
            counts["replayed"] += replay.counts.replayed
    expected = {"ok", "left", "Conflict", "DeadlineExceeded", "EngineError", "Gone"}
    assert expected <= set(ends), f"the clients were too alike: {ends}"
    assert all(counts[name] > 100 for name in ("taken over", "joined", "replayed")), counts
    assert counts["fenced"] > 20, counts


def test_a_key_never_has_two_generations_at_once_where_nothing_breaks() -> None:
    for seed in seeds(50):
        world = virtual_time.run(played(seed, crashes=0, stalls=0))
        found = [*violations(world), *overlaps(world)]
        assert not found, (seed, found)


def test_while_the_store_comes_and_goes_everybody_is_answered_and_nothing_leaks() -> None:
    degraded = 0
    for seed in seeds(50):
        world = virtual_time.run(played(seed, stalls=2, absences=8))
        found = violations(world)
        assert not found, (seed, found)
        degraded += sum(seen.name is not None and seen.name.degraded for seen in world.seen)
        errors = {seen.error for seen in world.seen}
        assert errors <= {"", "Conflict", "DeadlineExceeded", "EngineError", "Gone", *AWAY}, errors
    assert degraded > 100


class Unfenced(MemoryStore):
    """Takes any answer, whoever has the name."""

    async def finish(self, wish: Wish, blob: bytes) -> bool:
        self.keep(wish, blob)
        return True


class Generous(MemoryStore):
    """Gives a name that is claimed to whoever asks next."""

    async def claim(self, wish: Wish) -> Claim:
        claim = await super().claim(wish)
        if isinstance(claim, Running):
            self._claimed.pop(wish.name)
            return await super().claim(wish)
        return claim


class Forgetful(MemoryStore):
    """Says that an answer is kept before it is."""

    async def finish(self, wish: Wish, blob: bytes) -> bool:
        return True


def stays(flight: Flight) -> None:
    """Do nothing when the last reader has left."""


@pytest.mark.parametrize("store", [Unfenced, Forgetful])
def test_a_planted_defect_of_the_store_is_caught(store: type[MemoryStore]) -> None:
    assert any(violations(virtual_time.run(played(seed, store=store))) for seed in range(50))


def test_a_planted_second_claim_is_caught() -> None:
    facts = {"store": Generous, "crashes": 0, "stalls": 0}
    assert any([*overlaps(virtual_time.run(played(seed, **facts)))] for seed in range(50))


def test_a_planted_leak_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flight, "_left", stays)
    assert any(violations(virtual_time.run(played(seed))) for seed in range(50))


def test_a_planted_haste_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is shown first, and kept afterwards."""
    real = Keys._keep

    async def hasty(self: Keys, flight: Flight, finished: Finished) -> bool:
        await flight.push(finished)
        return await real(self, flight, finished)

    monkeypatch.setattr(Keys, "_keep", hasty)
    assert any(violations(virtual_time.run(played(seed))) for seed in range(50))


def test_event_ids_that_name_no_answer_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_gateways, "mark", lambda _: "")
    assert any(violations(virtual_time.run(played(seed))) for seed in range(50))
