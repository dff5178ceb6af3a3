import pytest

from forebay.core.caller import Account, Bounds, Caller, Level, Rate
from forebay.core.clock import ManualClock
from forebay.gateway.quota_headers import duration, headers
from forebay.serve.limiter import MemoryLimiter
from forebay.serve.limits import UNLIMITED, Limits, OverRate, Standing
from forebay.serve.limits_config import LimitsConfig

CLOSED = LimitsConfig(requests="100/minute", tokens="5000/minute", requests_per_tenant="150/hour")
ALICE = Caller(
    tenant="acme",
    user="alice",
    accounts=(Account(level=Level.USER, id="alice"), Account(level=Level.TENANT, id="acme")),
)


async def standing(
    config: LimitsConfig, caller: Caller = ALICE, requests: int = 1
) -> tuple[Standing, ...]:
    clock = ManualClock(7.0)
    limits = Limits(MemoryLimiter(config, clock), config, clock)
    return tuple([await limits.enter(caller) for _ in range(requests)])


def told(*standings: Standing) -> dict[str, str]:
    return {name.decode(): found.decode() for name, found in headers(*standings)}


async def test_a_caller_is_told_what_is_left_in_both_dialects() -> None:
    (found,) = await standing(CLOSED)
    assert told(found) == {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-reset-requests": "600ms",
        "x-ratelimit-limit-tokens": "5000",
        "x-ratelimit-remaining-tokens": "5000",
        "x-ratelimit-reset-tokens": "0s",
        "ratelimit-policy": '"requests";q=100;w=60, "tokens";q=5000;w=60',
        "ratelimit": '"requests";r=99;t=1, "tokens";r=5000;t=0',
    }


async def test_of_several_accounts_the_tightest_is_told() -> None:
    tenant = Account(
        level=Level.TENANT, id="acme", bounds=Bounds(requests=Rate(amount=3, period_s=60.0))
    )
    key = Account(level=Level.KEY, id="k", bounds=Bounds(requests=Rate(amount=9, period_s=1.0)))
    caller = Caller(accounts=(key, tenant, ALICE.accounts[0]))
    found = told((await standing(CLOSED, caller, requests=2))[-1])
    assert found["x-ratelimit-limit-requests"] == "3"
    assert found["x-ratelimit-remaining-requests"] == "1"
    assert found["ratelimit-policy"].startswith('"requests";q=3;w=60')


async def test_what_is_not_limited_is_not_told() -> None:
    (found,) = await standing(LimitsConfig(requests="5/minute"))
    assert not [name for name in told(found) if "tokens" in name]
    assert told(found)["ratelimit"] == '"requests";r=4;t=12'
    assert headers(UNLIMITED) == ()
    assert headers() == ()


async def test_of_each_unit_the_last_that_is_known_is_told() -> None:
    first, second = await standing(
        LimitsConfig(requests="5/minute", tokens="10/minute"), requests=2
    )
    only_tokens = await standing(LimitsConfig(tokens="7/minute"))
    found = told(first, second, *only_tokens, UNLIMITED)
    assert found["x-ratelimit-remaining-requests"] == "3"
    assert found["x-ratelimit-limit-tokens"] == "7"


async def test_a_refusal_tells_how_it_stood() -> None:
    with pytest.raises(OverRate) as refused:
        await standing(LimitsConfig(requests="1/minute"), requests=2)
    found = told(refused.value.standing)
    assert found["x-ratelimit-remaining-requests"] == "0"
    assert found["ratelimit"] == '"requests";r=0;t=60'


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_661_250, "1h1m1.25s"),
        (86_400_000, "24h0m0s"),
    ],
)
def test_times_are_written_as_go_writes_them(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text
