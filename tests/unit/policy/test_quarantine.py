"""Who goes on after a loss, one at a time, and who does not."""

from forebay.policy.quarantine import Passenger, Quarantine, Verdict

GO_ON, SPENT, GUILTY = Verdict.GO_ON, Verdict.SPENT, Verdict.GUILTY


def a_quarantine(losses_max: int = 2) -> Quarantine:
    return Quarantine(losses_max=losses_max, barred_s=10.0, barred_max=2)


def verdicts(*passengers: Passenger) -> list[Verdict]:
    return [passenger.verdict for passenger in passengers]


def after_one_loss(quarantine: Quarantine, count: int = 3) -> list[Passenger]:
    passengers = [Passenger() for _ in range(count)]
    for passenger in passengers:
        quarantine.board("w", passenger)
    assert quarantine.lost("w", passengers) is None
    return passengers


def test_after_one_loss_everybody_goes_on_but_one_at_a_time() -> None:
    quarantine = a_quarantine()
    first, second, third = after_one_loss(quarantine)
    assert verdicts(first, second, third) == [GO_ON] * 3
    quarantine.board("w", first)
    assert not quarantine.may_board("w", second)
    assert quarantine.may_board("v", second), "another worker has a place for one, too"
    quarantine.board("v", second)
    assert not quarantine.may_board("v", third)
    assert quarantine.may_board("w", Passenger()), "who is clean goes on in parallel"
    quarantine.progressed(first)
    assert quarantine.may_board("w", third)


def test_who_was_on_probation_at_a_second_loss_is_guilty_and_the_others_are_not() -> None:
    quarantine = a_quarantine()
    first, second, third = after_one_loss(quarantine)
    clean = Passenger()
    quarantine.board("w", clean)
    quarantine.board("w", first)
    quarantine.progressed(first)
    quarantine.board("w", second)
    assert quarantine.lost("w", [clean, first, second]) is second
    assert verdicts(clean, first, second, third) == [GO_ON, GO_ON, GUILTY, GO_ON]
    assert not clean.suspect
    assert quarantine.may_board("w", third), "its place is free again"


def test_nobody_is_run_a_third_time_where_nobody_was_on_probation() -> None:
    quarantine = a_quarantine()
    passengers = after_one_loss(quarantine)
    for passenger in passengers:
        quarantine.board("w", passenger)
        quarantine.progressed(passenger)
    newcomer = Passenger()
    assert quarantine.lost("w", [*passengers, newcomer]) is None
    assert verdicts(*passengers, newcomer) == [SPENT, SPENT, SPENT, GO_ON]


def test_who_was_alone_aboard_both_losses_is_guilty() -> None:
    quarantine = a_quarantine()
    [alone] = after_one_loss(quarantine, 1)
    quarantine.board("w", alone)
    quarantine.progressed(alone)
    assert quarantine.lost("w", [alone, Passenger()]) is alone


def test_who_left_before_the_loss_is_not_held_to_account() -> None:
    quarantine = a_quarantine()
    first, second, _ = after_one_loss(quarantine)
    quarantine.board("w", first)
    quarantine.left(first)
    quarantine.board("w", second)
    assert quarantine.lost("w", [second]) is second
    assert first.verdict is GO_ON


def test_a_place_on_probation_is_lost_with_the_worker_even_if_nobody_had_gone_aboard() -> None:
    quarantine = a_quarantine()
    first, second, _ = after_one_loss(quarantine)
    quarantine.board("w", first)
    assert quarantine.lost("w", []) is None
    assert first.losses == 1
    assert quarantine.may_board("w", second)


def test_nobody_witnesses_losses_without_end() -> None:
    quarantine = a_quarantine()
    witness, *others = after_one_loss(quarantine, 5)
    quarantine.progressed(witness)
    for number, other in enumerate(others):
        assert witness.verdict is GO_ON
        quarantine.board("w", other)
        assert quarantine.lost("w", [witness, other]) is other
        assert other.verdict is GUILTY, number
    assert witness.verdict is SPENT


def test_without_re_runs_a_first_loss_is_the_last() -> None:
    quarantine = a_quarantine(losses_max=1)
    assert verdicts(*after_one_loss_of_two(quarantine)) == [SPENT, SPENT]


def after_one_loss_of_two(quarantine: Quarantine) -> list[Passenger]:
    passengers = [Passenger(), Passenger()]
    quarantine.lost("w", passengers)
    return passengers


def test_a_barred_wish_is_remembered_for_a_while_and_the_oldest_forgotten_first() -> None:
    quarantine = a_quarantine()
    quarantine.bar("a", 0.0)
    quarantine.bar("b", 5.0)
    assert quarantine.is_barred("a", 9.0)
    assert not quarantine.is_barred("a", 10.0)
    assert quarantine.barred == 1
    quarantine.bar("c", 6.0)
    quarantine.bar("d", 7.0)
    assert [quarantine.is_barred(wish, 8.0) for wish in "bcd"] == [False, True, True]
