from forebay.policy.reserve import Reserve


def a_reserve(tenants_max: int = 100, **weights: float) -> Reserve:
    return Reserve(lambda tenant: weights.get(tenant, 1.0), tenants_max=tenants_max)


def test_a_tenant_that_comes_alone_shares_with_nobody() -> None:
    reserve = a_reserve()
    reserve.came("a", 1.0)
    reserve.came("a", 2.0)
    assert not reserve.shared(0.0)


def test_two_tenants_share_until_one_has_not_come_for_long() -> None:
    reserve = a_reserve()
    reserve.came("a", 1.0)
    reserve.came("b", 2.0)
    assert reserve.shared(0.5)
    assert not reserve.shared(1.5)


def test_a_tenant_is_entitled_until_it_holds_its_share() -> None:
    reserve = a_reserve()
    reserve.came("a", 1.0)
    reserve.came("b", 1.0)
    reserve.took("a", 3)
    assert reserve.entitled("a", 8)
    reserve.took("a", 1)
    assert not reserve.entitled("a", 8)
    assert reserve.entitled("b", 8)


def test_a_share_follows_the_weight() -> None:
    reserve = a_reserve(a=3.0)
    reserve.came("a", 1.0)
    reserve.came("b", 1.0)
    reserve.took("a", 5)
    reserve.took("b", 2)
    assert reserve.entitled("a", 8)
    assert not reserve.entitled("b", 8)


def test_places_given_back_count_no_more() -> None:
    reserve = a_reserve()
    reserve.came("a", 1.0)
    reserve.came("b", 1.0)
    reserve.took("a", 5)
    reserve.gave("a", 3)
    assert reserve.entitled("a", 8)
    reserve.gave("a", 2)
    assert reserve._places == {}


def test_who_holds_nothing_is_always_entitled() -> None:
    reserve = a_reserve()
    for number in range(50):
        reserve.came(f"t{number}", 1.0)
    assert reserve.entitled("t0", 2)
    assert reserve.entitled("unseen", 2)


def test_tenants_are_forgotten_beyond_the_most_that_are_remembered() -> None:
    reserve = a_reserve(tenants_max=3)
    for number in range(20):
        reserve.came(f"t{number}", float(number))
    assert len(reserve._came) == 3
    assert reserve._weights == 3.0
