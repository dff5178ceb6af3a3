"""Who makes room for a model that is to be loaded."""

from forebay.policy.residency import (
    NoRoom,
    ResidencyConfig,
    Resident,
    Room,
    Wanted,
    make_room,
    wait_after,
)


def resident(name: str, size: int = 10, *, used: int = 0, **how: object) -> Resident:
    facts = {"loaded": 0.0, "busy": False} | how
    return Resident(name=name, bytes=size, used=used, **facts)  # type: ignore[arg-type]


def choose(
    *residents: Resident, needed: int = 10, free: int = 0, loaded_max: int = 9, now: float = 100.0
) -> Room | NoRoom:
    wanted = Wanted(bytes=needed, free_bytes=free, loaded_max=loaded_max)
    return make_room(residents, wanted, now=now, stay_s_min=10.0)


def test_nobody_goes_where_there_is_room() -> None:
    assert choose(resident("a"), free=10) == Room(())


def test_the_one_used_longest_ago_goes_first() -> None:
    assert choose(resident("new", used=5), resident("old", used=2)) == Room(("old",))


def test_no_more_go_than_have_to() -> None:
    models = [resident("a", 4, used=1), resident("b", 4, used=2), resident("c", 4, used=3)]
    assert choose(*models, needed=8) == Room(("a", "b"))


def test_an_idle_one_goes_before_a_busy_one_however_recently_it_was_used() -> None:
    assert choose(resident("busy", used=1, busy=True), resident("idle", used=9)) == Room(("idle",))


def test_a_busy_one_goes_where_no_idle_one_is_left() -> None:
    assert choose(resident("busy", busy=True)) == Room(("busy",))


def test_the_number_of_models_is_a_bound_of_its_own() -> None:
    models = (resident("a", used=1), resident("b", used=2))
    assert choose(*models, free=1_000, loaded_max=2) == Room(("a",))


def test_a_pinned_one_never_goes() -> None:
    models = (resident("pinned", used=1, pinned=True), resident("other", used=2))
    assert choose(*models) == Room(("other",))


def test_a_model_that_would_not_fit_if_all_went_is_told_what_could_be_had() -> None:
    models = (resident("pinned", 50, pinned=True), resident("other", 10))
    assert choose(*models, needed=40, free=5) == NoRoom(None, 15)


def test_there_is_never_room_beside_as_many_pinned_ones_as_may_be() -> None:
    assert choose(resident("pinned", pinned=True), free=99, loaded_max=1) == NoRoom(None, 99)


def test_one_that_has_just_come_stays_a_while_and_says_how_long() -> None:
    fresh = resident("fresh", loaded=96.0)
    assert choose(fresh) == NoRoom(6.0, 10)
    assert choose(fresh, now=106.0) == Room(("fresh",))


def test_of_several_that_stay_a_while_the_first_that_may_go_is_waited_for() -> None:
    assert choose(resident("a", loaded=96.0), resident("b", loaded=93.0)) == NoRoom(3.0, 20)


def test_who_is_kept_for_those_who_waited_for_it_may_go_at_any_moment() -> None:
    assert choose(resident("awaited", loaded=10.0, awaited=True)) == NoRoom(0.0, 10)


def test_a_model_that_fails_again_and_again_is_left_alone_for_longer_up_to_a_bound() -> None:
    config = ResidencyConfig(failed_s=10.0, failed_s_max=35.0)
    assert [wait_after(failures, config) for failures in (1, 2, 3, 4)] == [10.0, 20.0, 35.0, 35.0]
