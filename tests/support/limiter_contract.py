"""The promises of `Limiter` as tests.

Derive a class named `Test…` from `LimiterContract` and give it two async fixtures: `limiter`, an
opened one in which nobody owes anything and that is closed afterwards; and `other`, a second
opened one that keeps the same rates (the same object, if they cannot be shared).
"""

import asyncio
import math

from forebay.core.caller import Rate
from forebay.policy.gcra import Ask, Verdict
from forebay.serve.limiter import Limiter, Taken

HOURLY = Rate(amount=5, period_s=3_600.0)
"""So slow that nothing comes free while a test runs."""
FAST = Rate(amount=4, period_s=1.0)
_SETTLED_S_MAX = 5.0


def an_ask(name: str = "user:a", *, cost: int = 1, rate: Rate = HOURLY) -> Ask:
    """Return an ask of a slow rate."""
    return Ask(name=name, crowd="user:", rate=rate, cost=cost)


async def only(limiter: Limiter, ask: Ask) -> Verdict:
    """Take one ask alone."""
    (verdict,) = (await limiter.take((ask,))).verdicts
    return verdict


async def remaining(limiter: Limiter, name: str = "user:a", rate: Rate = HOURLY) -> int:
    """Return what is left of a rate."""
    return (await only(limiter, an_ask(name, cost=0, rate=rate))).remaining


async def until_left(limiter: Limiter, count: int, name: str = "user:a") -> None:
    """Wait until so much of a rate is left: what is given back may take a moment."""
    async with asyncio.timeout(_SETTLED_S_MAX):
        while await remaining(limiter, name) != count:
            await asyncio.sleep(0.001)


class LimiterContract:
    """Numbers are those of the protocol's promises."""

    async def test_1_the_whole_amount_passes_at_once_and_no_more(
        self, limiter: Limiter, other: Limiter
    ) -> None:
        """Whichever limiter is asked."""
        left = [(await only((limiter, other)[turn % 2], an_ask())).remaining for turn in range(5)]
        assert left == [4, 3, 2, 1, 0]
        refused = await only(other, an_ask())
        assert (refused.passed, refused.remaining) == (False, 0)
        assert 719.0 < refused.retry_s <= 720.001
        assert 3_599.0 < refused.reset_s <= 3_600.0

    async def test_1_of_many_at_once_as_many_pass_as_may(
        self, limiter: Limiter, other: Limiter
    ) -> None:
        """However they fall together."""
        asked = [(limiter, other)[turn % 2].take((an_ask(),)) for turn in range(40)]
        taken = await asyncio.gather(*asked)
        assert sum(each.passed for each in taken) == HOURLY.amount

    async def test_1_what_one_rate_refuses_is_taken_of_none(self, limiter: Limiter) -> None:
        """All or nothing, in whichever order they are asked."""
        await only(limiter, an_ask("key:k", cost=4))
        both = (an_ask("user:a", cost=2), an_ask("key:k", cost=2))
        for asks in (both, both[::-1]):
            taken = await limiter.take(asks)
            said = {ask.name: verdict for ask, verdict in zip(asks, taken.verdicts, strict=True)}
            assert not taken.passed
            assert (said["user:a"].passed, said["user:a"].remaining) == (True, 5)
            assert (said["key:k"].passed, said["key:k"].remaining) == (False, 1)
        assert (await limiter.take((both[0],))).passed
        assert (await remaining(limiter), await remaining(limiter, "key:k")) == (3, 1)

    async def test_1_looking_takes_nothing(self, limiter: Limiter) -> None:
        """An ask of no cost always passes."""
        for _ in range(3):
            assert await remaining(limiter) == 5
        await only(limiter, an_ask(cost=5))
        assert (await only(limiter, an_ask(cost=0))).passed
        assert await remaining(limiter) == 0

    async def test_1_more_than_the_whole_rate_never_passes(self, limiter: Limiter) -> None:
        """And says so, though nothing is owed."""
        refused = await only(limiter, an_ask(cost=6))
        assert (refused.passed, refused.remaining) == (False, 5)
        assert math.isinf(refused.retry_s)

    async def test_2_who_waits_as_long_as_was_said_passes(self, limiter: Limiter) -> None:
        """If nobody else asked meanwhile."""
        while (await only(limiter, an_ask(rate=FAST))).passed:
            pass
        refused = await only(limiter, an_ask(rate=FAST))
        assert 0.0 < refused.retry_s <= 0.251
        await asyncio.sleep(refused.retry_s)
        assert (await only(limiter, an_ask(rate=FAST))).passed

    async def test_3_whoever_is_cancelled_while_it_asks_has_taken_nothing(
        self, limiter: Limiter
    ) -> None:
        """At whichever moment."""
        for turns in range(12):
            asking = asyncio.create_task(limiter.take((an_ask(), an_ask("key:k"))))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            (found,) = await asyncio.gather(asking, return_exceptions=True)
            if isinstance(found, Taken):
                limiter.give_back(found, (1, 1))
            await until_left(limiter, 5)
            await until_left(limiter, 5, "key:k")

    async def test_4_what_is_given_back_may_be_taken_again(
        self, limiter: Limiter, other: Limiter
    ) -> None:
        """Of each ask as much as was said."""
        taken = await limiter.take((an_ask(cost=5), an_ask("key:k", cost=4)))
        limiter.give_back(taken, (3, 0))
        await until_left(other, 3)
        assert await remaining(other, "key:k") == 1
        limiter.give_back(taken, (1, 2))
        await until_left(other, 4)
        await until_left(other, 3, "key:k")

    async def test_4_giving_back_too_much_makes_no_more_than_the_whole(
        self, limiter: Limiter
    ) -> None:
        """Nor does it help anybody who comes later."""
        taken = await limiter.take((an_ask(cost=2),))
        limiter.give_back(taken, (5,))
        await until_left(limiter, 5)
        await only(limiter, an_ask(cost=2))
        assert await remaining(limiter) == 3

    async def test_4_what_was_used_beyond_is_charged(self, limiter: Limiter) -> None:
        """Whatever it leads to; but nobody waits for more than the period."""
        taken = await limiter.take((an_ask(cost=1),))
        limiter.give_back(taken, (-3,))
        await until_left(limiter, 1)
        limiter.give_back(taken, (-300,))
        await until_left(limiter, 0)
        assert (await only(limiter, an_ask())).retry_s <= 720.001

    async def test_4_whoever_is_charged_far_beyond_its_rate_waits_as_long_as_it_is_told(
        self, limiter: Limiter
    ) -> None:
        """And not for all that it owes."""
        taken = await limiter.take((an_ask(rate=FAST),))
        limiter.give_back(taken, (-300,))
        async with asyncio.timeout(_SETTLED_S_MAX):
            while await remaining(limiter, rate=FAST):
                await asyncio.sleep(0.001)
        refused = await only(limiter, an_ask(rate=FAST))
        await asyncio.sleep(refused.retry_s)
        assert (await only(limiter, an_ask(rate=FAST))).passed
