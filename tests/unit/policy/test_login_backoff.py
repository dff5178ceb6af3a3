"""Who fails waits, longer each time; who does not is not made to wait by others."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policy.addresses import network_of
from forebay.policy.login_backoff import Attempt, BackoffConfig, LoginBackoff

HERE, THERE = "192.0.2.1", "198.51.100.7"
DAY_S = 86_400.0


def backoff(**config: Any) -> LoginBackoff:
    return LoginBackoff(BackoffConfig(**config))


def fail(of: LoginBackoff, times: int, *, account: str = "alice", address: str = HERE) -> float:
    """Fail so often, waiting as long as one has to; return the moment after."""
    now = 0.0
    for _ in range(times):
        attempt = of.begin(account, address, now)
        if attempt.wait_s:
            now += attempt.wait_s
            attempt = of.begin(account, address, now)
        assert attempt.wait_s == 0.0
    return now


def test_the_first_failures_cost_nothing_and_each_further_one_twice_as_much() -> None:
    of = backoff(pair_failures_max=3)
    for _ in range(3):
        assert of.begin("alice", HERE, 0.0).wait_s == 0.0
    now, waits = 0.0, []
    for _ in range(6):
        wait_s = of.begin("alice", HERE, now).wait_s
        waits.append(wait_s)
        now += wait_s
        assert of.begin("alice", HERE, now).wait_s == 0.0
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


def test_a_wait_is_bounded_so_that_nobody_is_kept_out_for_good() -> None:
    of = backoff(pair_wait_s_max=300.0, address_failures_max=10_000, account_failures_max=10_000)
    now = fail(of, 60)
    assert of.begin("alice", HERE, now).wait_s == 300.0


def test_trying_during_a_wait_does_not_lengthen_it() -> None:
    of = backoff(pair_failures_max=1)
    of.begin("alice", HERE, 0.0)
    waits = [of.begin("alice", HERE, tenth / 10).wait_s for tenth in range(10)]
    assert waits == pytest.approx([1.0 - tenth / 10 for tenth in range(10)])
    assert of.begin("alice", HERE, 1.0).wait_s == 0.0


def test_a_thousand_at_once_are_no_way_around() -> None:
    of = backoff(pair_failures_max=5)
    begun = [of.begin("alice", HERE, 0.0) for _ in range(1_000)]
    assert sum(attempt.wait_s == 0.0 for attempt in begun) == 5


def test_a_success_forgives_the_account_at_its_address() -> None:
    of = backoff(pair_failures_max=3)
    of.begin("alice", HERE, 0.0)
    of.begin("alice", HERE, 0.0)
    of.succeeded(of.begin("alice", HERE, 0.0), 0.0)
    for _ in range(3):
        assert of.begin("alice", HERE, 0.0).wait_s == 0.0


def test_nobody_forgives_their_address_by_logging_in_between_two_guesses() -> None:
    of = backoff(address_failures_max=20)
    guesses = 0
    for number in range(1_000):
        of.succeeded(of.begin("mallory", HERE, 0.0), 0.0)
        guesses += of.begin(f"victim{number}", HERE, 0.0).wait_s == 0.0
    assert guesses == 20


def test_many_accounts_from_one_address_are_slowed_as_one() -> None:
    of = backoff(address_failures_max=20)
    begun = [of.begin(f"user{number}", HERE, 0.0).wait_s == 0.0 for number in range(100)]
    assert sum(begun) == 20
    assert of.begin("alice", THERE, 0.0).wait_s == 0.0


def test_one_account_from_many_addresses_is_slowed_and_never_for_long() -> None:
    of = backoff(account_failures_max=50, account_wait_s_max=30.0)
    now = 0.0
    for number in range(500):
        attempt = of.begin("alice", f"10.0.{number // 250}.{number % 250}", now)
        assert attempt.wait_s <= 30.0
        now += attempt.wait_s
    assert of.begin("alice", THERE, now).wait_s <= 30.0
    assert of.begin("bob", THERE, now).wait_s == 0.0


def test_strangers_do_not_keep_the_owner_out_at_an_address_where_it_was_known() -> None:
    of = backoff(account_failures_max=10, address_failures_max=10)
    of.succeeded(of.begin("alice", HERE, 0.0), 0.0)
    for number in range(200):
        of.begin("alice", f"10.0.0.{number}", 1.0)
        of.begin(f"user{number}", HERE, 1.0)
    assert of.begin("bob", HERE, 1.0).wait_s > 0.0
    attempt = of.begin("alice", HERE, 1.0)
    assert (attempt.wait_s, attempt.known) == (0.0, True)


def test_who_is_known_waits_for_its_own_failures_and_adds_to_nobodys() -> None:
    of = backoff(pair_failures_max=5, address_failures_max=6)
    of.succeeded(of.begin("alice", HERE, 0.0), 0.0)
    begun = [of.begin("alice", HERE, 0.0).wait_s == 0.0 for _ in range(100)]
    assert sum(begun) == 5
    assert of.begin("bob", HERE, 0.0).wait_s == 0.0


def test_who_is_known_is_so_for_a_time() -> None:
    of = backoff(known_s=DAY_S)
    of.succeeded(of.begin("alice", HERE, 0.0), 0.0)
    assert of.begin("alice", HERE, DAY_S).known
    assert not of.begin("alice", HERE, DAY_S + 1.0).known
    assert not of.begin("alice", THERE, 0.0).known


def test_failures_are_forgotten_after_a_while() -> None:
    of = backoff(pair_failures_max=3, forgotten_s=1_800.0)
    now = fail(of, 10) + 1_800.1
    for _ in range(3):
        assert of.begin("alice", HERE, now).wait_s == 0.0


def test_what_was_not_checked_after_all_counts_for_nothing() -> None:
    of = backoff(pair_failures_max=3, address_failures_max=3, account_failures_max=3)
    for _ in range(100):
        of.withdrawn(of.begin("alice", HERE, 0.0))
    assert of.begin("alice", HERE, 0.0).wait_s == 0.0


def test_a_success_of_somebody_new_makes_its_neighbours_wait_no_longer() -> None:
    of = backoff(address_failures_max=1, address_wait_s_max=60.0)
    fail_at = of.begin("x", HERE, 0.0).began
    attempt = of.begin("newcomer", HERE, fail_at + 1.0)
    assert attempt.wait_s == 0.0
    of.succeeded(attempt, 1.5)
    assert of.begin("y", HERE, 1.5).wait_s == 0.0


def test_the_tables_are_bounded_and_the_oldest_entry_goes_first() -> None:
    of = backoff(pair_failures_max=1, account_failures_max=1, remembered_max=100)
    for number in range(1_000):
        address = f"10.{number // 250}.0.{number % 250}"
        of.succeeded(of.begin(f"known{number}", address, 0.0), 0.0)
        of.begin(f"user{number}", address, 0.0)
    assert of.begin("user999", THERE, 0.0).wait_s > 0.0
    assert of.begin("user0", THERE, 0.0).wait_s == 0.0
    tables = (of._pairs, of._addresses, of._accounts)
    assert all(len(table._counts) <= 100 for table in tables)
    assert len(of._known) <= 100


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_address_is_what_one_subscriber_has(address: str, network: str) -> None:
    assert network_of(address) == network


attempts = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([HERE, THERE]),
        st.floats(0.0, 50.0),
        st.sampled_from(["fail", "succeed", "withdraw"]),
    ),
    max_size=60,
)


@given(attempts)
def test_no_wait_is_longer_than_the_longest_and_waiting_it_out_is_enough(
    tried: list[tuple[str, str, float, str]],
) -> None:
    config = BackoffConfig(pair_failures_max=2, address_failures_max=3, account_failures_max=3)
    of, now = LoginBackoff(config), 0.0
    for account, address, passed_s, end in tried:
        now += passed_s
        attempt: Attempt = of.begin(account, address, now)
        assert attempt.wait_s <= 300.0
        if attempt.wait_s:
            again = of.begin(account, address, now + attempt.wait_s)
            assert again.wait_s == pytest.approx(0.0, abs=1e-9)
            of.withdrawn(again)
            continue
        if end == "succeed":
            of.succeeded(attempt, now)
        elif end == "withdraw":
            of.withdrawn(attempt)
