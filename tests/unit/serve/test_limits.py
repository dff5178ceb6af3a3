import math
from dataclasses import replace

import pytest

from forebay.core.caller import NOBODY, UNBOUNDED, Account, Bounds, Caller, Level, Rate
from forebay.core.clock import ManualClock
from forebay.core.errors import Invalid
from forebay.serve.limiter import MemoryLimiter
from forebay.serve.limits import UNLIMITED, Limits, OverRate, Probe, Unit
from forebay.serve.limits_config import RATES, LimitsConfig, misfits


class World:
    """Limits, and a clock to move."""

    def __init__(self, *, closed: bool = True, **knobs: object) -> None:
        self.clock = ManualClock(1_000.0)
        self.config = LimitsConfig(**knobs)  # type: ignore[arg-type]  # the tests name real knobs
        self.limiter = MemoryLimiter(self.config, self.clock)
        self.limits = Limits(self.limiter, self.config, self.clock, closed=closed)

    async def enter(self, caller: Caller, times: int = 1) -> None:
        for _ in range(times):
            await self.limits.enter(caller)

    async def passes(self, caller: Caller) -> int:
        """Count how many pass at once."""
        count = 0
        try:
            while count < 10_000:
                await self.limits.enter(caller)
                count += 1
        except OverRate:
            pass
        return count


def a_caller(
    user: str = "alice", key: str = "", tenant: str = "acme", *, own: Bounds = UNBOUNDED
) -> Caller:
    accounts = [
        Account(level=level, id=name, bounds=own if level is Level.USER else UNBOUNDED)
        for level, name in ((Level.KEY, key), (Level.USER, user), (Level.TENANT, tenant))
        if name
    ]
    return Caller(tenant=tenant, user=user, key_id=key, accounts=tuple(accounts))


def per_minute(amount: int) -> Bounds:
    return Bounds(requests=Rate(amount=amount, period_s=60.0))


async def test_where_accounts_are_asked_for_a_user_has_a_hundred_a_minute() -> None:
    world = World()
    assert await world.passes(a_caller()) == 100
    assert await world.passes(a_caller("bob")) == 100


async def test_where_nobody_is_asked_nobody_is_limited_unless_that_is_set() -> None:
    assert await World(closed=False).limits.enter(NOBODY) is UNLIMITED
    world = World(closed=False, requests="5/minute")
    assert await world.passes(NOBODY) == 5
    assert await world.passes(Caller(tenant="another")) == 5


async def test_each_level_has_a_default_of_its_own_and_all_must_let_pass() -> None:
    world = World(requests="6/minute", requests_per_key="4/minute", requests_per_tenant="9/minute")
    assert await world.passes(a_caller("alice", "k1")) == 4
    assert await world.passes(a_caller("alice", "k2")) == 2, "the user's six are used up"
    assert await world.passes(a_caller("bob")) == 3, "the tenant's nine are used up"
    refusals = {("key", "requests"): 1, ("user", "requests"): 1, ("tenant", "requests"): 1}
    assert world.limits.refusals == refusals


async def test_an_account_with_bounds_of_its_own_is_held_to_those() -> None:
    world = World(requests="6/minute")
    assert await world.passes(a_caller("alice")) == 6
    assert await world.passes(a_caller("bob", own=per_minute(2))) == 2
    assert await world.passes(a_caller("carol", own=per_minute(20))) == 20


async def test_a_refusal_names_the_limit_what_is_left_and_when_it_fits() -> None:
    world = World(requests_per_key="10/minute")
    caller = a_caller(key="k1")
    await world.enter(caller, 8)
    world.clock.advance(3.0)
    with pytest.raises(OverRate) as refused:
        await world.limits.enter(caller, cost=4)
    assert refused.value.message == (
        "This key may make 10 requests per minute; 2 are left, and this takes 4. It fits in 9 s."
    )
    assert refused.value.status == 429
    wait_s = refused.value.retry_after_s
    assert wait_s == pytest.approx(9.0, abs=3e-6)
    assert wait_s is not None
    world.clock.advance(wait_s)
    await world.limits.enter(caller, cost=4)


async def test_of_several_limits_that_refuse_the_one_that_lasts_longest_is_named() -> None:
    world = World(requests="2/minute", requests_per_tenant="2/day")
    await world.enter(a_caller(), 2)
    with pytest.raises(OverRate, match="This tenant may make 2 requests per day") as refused:
        await world.enter(a_caller())
    assert refused.value.retry_after_s == pytest.approx(43_200.0, abs=1e-3)


async def test_a_call_of_more_requests_than_may_ever_come_at_once_is_told_so() -> None:
    world = World(requests="10/minute")
    with pytest.raises(Invalid, match=r"this takes 11 at once, which never fits") as refused:
        await world.limits.enter(a_caller(), cost=11)
    assert (refused.value.status, refused.value.retry_after_s) == (400, None)
    assert await world.passes(a_caller()) == 10, "it took nothing"


async def test_what_is_refused_by_one_account_is_counted_on_none() -> None:
    world = World(requests="6/minute", requests_per_key="1/minute")
    assert await world.passes(a_caller("alice", "k1")) == 1
    assert await world.passes(a_caller("alice")) == 5


async def test_a_caller_is_told_how_its_tokens_stand_without_taking_any() -> None:
    world = World(tokens="1000/minute")
    for _ in range(3):
        told = (await world.limits.enter(a_caller())).tightest(Unit.TOKENS)
        assert told is not None
        assert told[1] == 1_000
    assert (await world.limits.enter(a_caller())).tightest(Unit.CONCURRENT) is None


async def test_one_is_one_request_and_not_one_requests() -> None:
    world = World(requests="1/minute")
    await world.enter(a_caller())
    with pytest.raises(OverRate, match="This user may make 1 request per minute; 0 are left"):
        await world.enter(a_caller())


async def test_a_call_of_several_requests_takes_no_tokens_either() -> None:
    world = World(tokens="1000/minute")
    told = (await world.limits.enter(a_caller(), cost=7)).tightest(Unit.TOKENS)
    assert told is not None
    assert told[1] == 1_000


async def test_where_accounts_are_asked_for_who_has_none_is_charged_to_none() -> None:
    world = World(requests="1/minute", tokens="1/minute")
    assert await world.limits.enter(NOBODY) is UNLIMITED
    assert world.limits.accounts_of(NOBODY) == ()


async def test_settings_that_are_read_again_hold_from_the_next_request_on() -> None:
    world = World(requests="2/minute")
    caller = a_caller()
    assert await world.passes(caller) == 2
    world.limits.reconfigure(replace(world.config, requests="200/minute"))
    assert await world.passes(caller) == 0, "what it took is owed still, for a minute at most"
    world.clock.advance(30.0)
    assert await world.passes(caller) == 100
    world.limits.reconfigure(replace(world.config, requests="1/minute"))
    assert await world.passes(caller) == 0


async def test_callers_are_planned_for_once_and_never_too_many() -> None:
    world = World(requests="5/minute")
    callers = [a_caller(f"user-{number}") for number in range(5_000)]
    for caller in callers:
        assert world.limits.plan_of(caller) is world.limits.plan_of(caller)
    assert len(world.limits._plans) == 4_096


async def test_a_caller_that_came_to_lie_where_another_was_is_not_taken_for_it() -> None:
    world = World(requests="5/minute")
    first, second = a_caller("first"), a_caller("second")
    world.limits._plans[id(second)] = world.limits.plan_of(first)
    assert world.limits.plan_of(second).caller is second


async def until_refused(limits: Limits, address: str, kind: Probe = Probe.HEALTH) -> OverRate:
    for _ in range(1_000):
        try:
            await limits.enter_address(address, kind)
        except OverRate as error:
            return error
    raise AssertionError("it was never refused")


async def test_an_address_may_ask_for_health_ten_times_a_minute() -> None:
    world = World()
    for _ in range(10):
        await world.limits.enter_address("10.0.0.1", Probe.HEALTH)
    refused = await until_refused(world.limits, "10.0.0.1")
    assert refused.retry_after_s == pytest.approx(6.0, abs=3e-6)
    assert refused.message == (
        "Without a credential an address may make 10 requests per minute here;"
        " this one may ask again in 6 s."
    )
    await world.limits.enter_address("10.0.0.1", Probe.PROBES)
    await world.limits.enter_address("10.0.0.2", Probe.HEALTH)
    assert world.limits.refusals == {("address", "requests"): 1}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "", True),
        ("not:an:address", "not:an:address", True),
        ("unix", "10.0.0.1", False),
    ],
)
async def test_whoever_has_a_network_to_itself_is_one_client(
    first: str, second: str, same: bool
) -> None:
    world = World()
    await until_refused(world.limits, first)
    if same:
        with pytest.raises(OverRate):
            await world.limits.enter_address(second, Probe.HEALTH)
    else:
        await world.limits.enter_address(second, Probe.HEALTH)


async def test_a_flood_of_addresses_takes_no_more_memory_and_keeps_out_nobody_known() -> None:
    world = World(accounts_max=100)
    await world.limits.enter_address("10.0.0.1", Probe.HEALTH)
    for number in range(2_000):
        try:
            await world.limits.enter_address(f"10.1.{number // 250}.{number % 250}", Probe.HEALTH)
        except OverRate:
            continue
    assert len(world.limits._addresses) <= 101
    await world.limits.enter_address("10.0.0.1", Probe.HEALTH)
    assert len(world.limiter.table) == 0, "accounts are kept apart from addresses"


async def test_probes_without_a_limit_are_not_counted() -> None:
    world = World(health="", probes="")
    for _ in range(1_000):
        await world.limits.enter_address("10.0.0.1", Probe.HEALTH)
    assert len(world.limits._addresses) == 0


@pytest.mark.parametrize("name", RATES)
def test_a_rate_that_cannot_be_read_is_named_with_what_is_taken(name: str) -> None:
    ((key, text),) = misfits(replace(LimitsConfig(), **{name: "plenty"}))  # type: ignore[arg-type]
    assert key == f"limits.{name}"
    assert text.startswith(f"limits.{name}: expected a number per second, minute, hour or day")
    assert "plenty" not in text


def test_the_defaults_can_be_read() -> None:
    assert list(misfits(LimitsConfig())) == []
    assert math.isclose(LimitsConfig().accounts_max, 100_000)


async def test_addresses_are_counted_apart_as_far_as_the_settings_say_when_they_change() -> None:
    world = World(accounts_max=1, health="1/minute")
    await world.limits.enter_address("192.0.2.1", Probe.HEALTH)
    await world.limits.enter_address("192.0.2.2", Probe.HEALTH)
    with pytest.raises(OverRate):  # there is one place, and those without share another
        await world.limits.enter_address("192.0.2.3", Probe.HEALTH)
    world.limits.reconfigure(replace(world.config, accounts_max=2))
    await world.limits.enter_address("192.0.2.3", Probe.HEALTH)


async def test_callers_are_counted_apart_as_far_as_the_settings_say_when_they_change() -> None:
    world = World(accounts_max=1, requests="1/minute")
    await world.enter(a_caller("ann"))
    await world.enter(a_caller("bob"))
    with pytest.raises(OverRate):  # there is one place, and those without share another
        await world.enter(a_caller("eve"))
    world.limits.reconfigure(replace(world.config, accounts_max=2))
    await world.enter(a_caller("eve"))


async def test_of_two_limits_on_requests_at_once_the_accounts_own_is_taken() -> None:
    world = World(concurrent_max=5)
    own = a_caller(own=Bounds(concurrent=2))
    assert [permit.most for permit in world.limits.plan_of(own).permits] == [2]
    assert [permit.most for permit in world.limits.plan_of(a_caller("bob")).permits] == [5]


async def test_strangers_who_flood_one_page_keep_nobody_from_another() -> None:
    world = World(accounts_max=1, health="1/minute", probes="1/minute")
    await world.limits.enter_address("192.0.2.1", Probe.HEALTH)
    await world.limits.enter_address("192.0.2.2", Probe.HEALTH)
    with pytest.raises(OverRate):
        await world.limits.enter_address("192.0.2.3", Probe.HEALTH)
    await world.limits.enter_address("192.0.2.3", Probe.PROBES)
