"""The shared store while it answers, and this process's own memory while it does not.

Theory of operation
-------------------
A question goes to the *far* store.  Where that is away the *near* one, a memory of this process,
answers instead, marked `degraded`: until the far store is back a key is known here only.

What the near store knows it is asked first, or a name claimed during an absence would be free
again the moment the absence ends.  Every answer that was made here is kept near as well, so a
retry that comes back to this process during an absence is replayed too.

An answer that the far store has not got is *owed*.  It is claimed and finished there as soon as
that works; where another process was faster, that one's answer stays, and ours serves our own
clients.  A far store that has forgotten a claim of ours (it was emptied, or lost its memory) is
told again by the next `renew` or `finish`: a name that nobody has is ours.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from forebay.serve.store import (
    Claim,
    Differs,
    Done,
    Found,
    Fresh,
    MemoryStore,
    Running,
    Sight,
    Store,
    StoreAway,
    Wish,
)

_PATIENCE_S: Final = 0.25
"""Pause before an owed answer is offered again.  While the far store is away that costs nothing."""
_REFUSALS_MAX: Final = 5


@dataclass(slots=True)
class _Debt:
    """An answer that the far store has not got."""

    wish: Wish
    refusals: int = 0


class ShelteredStore:
    """Asks the far store, and never fails for its sake."""

    def __init__(self, far: Store, near: MemoryStore, *, owed_max: int) -> None:
        """Owe the far store at most so many answers; beyond that the oldest stay here."""
        assert owed_max >= 1
        self._far = far
        self._near = near
        self._owed_max = owed_max
        # The whole mutable state: who claimed here and has not ended, whose answers are owed
        # (by name), and the task that pays.
        self._owners: dict[str, str] = {}
        self._owed: OrderedDict[str, _Debt] = OrderedDict()
        self._paying: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether the far store is, and the near one serves."""
        return self._far.away

    @property
    def owed(self) -> int:
        """Answers that the far store has not got yet."""
        return len(self._owed)

    @property
    def claims(self) -> int:
        """Names that are claimed by this process."""
        return len(self._owners)

    async def open(self) -> None:
        """Get both ready."""
        await self._near.open()
        await self._far.open()

    async def close(self) -> None:
        """Close both; what is owed is not paid any more."""
        if self._paying is not None:
            self._paying.cancel()
            await asyncio.wait({self._paying})
        await self._far.close()
        await self._near.close()

    async def claim(self, wish: Wish) -> Claim:
        """Take a name, or say who has it."""
        if wish.name in self._near:
            claim = self._marked(await self._near.claim(wish), wish.name)
        else:
            try:
                claim = await self._far.claim(wish)
            except StoreAway:
                # Another one may have claimed it near while the far store did not answer.
                claim = self._marked(await self._near.claim(wish), wish.name)
        if isinstance(claim, Fresh):
            self._owners[wish.owner] = wish.name
        return claim

    async def renew(self, wish: Wish) -> bool:
        """Lengthen the owner's lease."""
        try:
            if await self._far.renew(wish) or await self._claimed_again(wish):
                return True
        except StoreAway:
            if wish.owner in self._owners:
                return isinstance(await self._near.claim(wish), Fresh)
        return await self._near.renew(wish)

    async def finish(self, wish: Wish, blob: bytes) -> bool:
        """Keep the answer."""
        if await self._near.finish(wish, blob):
            if self._owners.pop(wish.owner, None) is not None:
                self._owe(wish)
            return True
        try:
            kept = await self._far.finish(wish, blob)
            if not kept and await self._claimed_again(wish):
                kept = await self._far.finish(wish, blob)
        except StoreAway:
            kept = wish.owner in self._owners
            if kept:
                self._owe(wish)
        if kept:
            self._near.keep(wish, blob)
        self._owners.pop(wish.owner, None)
        return kept

    async def abandon(self, wish: Wish) -> None:
        """Free a name."""
        self._owners.pop(wish.owner, None)
        await self._near.abandon(wish)
        try:
            await self._far.abandon(wish)
        except StoreAway:
            return  # its lease ends by itself

    async def look(self, name: str) -> Sight:
        """See what is under a name."""
        if name not in self._near:
            try:
                return await self._far.look(name)
            except StoreAway:
                pass
        sight = await self._near.look(name)
        return None if sight is None else replace(sight, degraded=self._here_only(sight, name))

    async def find(self, owner: str) -> Found:
        """See what became of an owner's claim; StoreAway where only the far store can know."""
        found = await self._near.find(owner)
        if isinstance(found, Running | Done):
            return found
        try:
            return await self._far.find(owner) or found
        except StoreAway:
            if found is None:
                raise
            return found

    async def _claimed_again(self, wish: Wish) -> bool:
        """Claim once more what the far store has forgotten; False if another has it now."""
        if wish.owner not in self._owners:
            return False
        return isinstance(await self._far.claim(wish), Fresh)

    def _owe(self, wish: Wish) -> None:
        self._owed[wish.name] = _Debt(wish)
        if len(self._owed) > self._owed_max:
            self._owed.popitem(last=False)
        if self._paying is None or self._paying.done():
            self._paying = asyncio.create_task(self._pay())

    async def _pay(self) -> None:
        while self._owed:
            name, debt = next(iter(self._owed.items()))
            if await self._offered(debt) and self._owed.get(name) is debt:
                del self._owed[name]

    async def _offered(self, debt: "_Debt") -> bool:
        """Deliver an answer, if that is possible and of use; False: it is owed still."""
        sight = await self._near.look(debt.wish.name)
        if not isinstance(sight, Done):
            return True
        try:
            if isinstance(await self._far.claim(debt.wish), Fresh):
                await self._far.finish(debt.wish, sight.blob)
        except StoreAway:
            # One that the far store cannot take, though it answers others, must not bring it down.
            debt.refusals += not self._far.away
            if debt.wish.name in self._owed:
                self._owed.move_to_end(debt.wish.name)
            await asyncio.sleep(_PATIENCE_S)
            return debt.refusals >= _REFUSALS_MAX
        return True

    def _marked(self, claim: Claim, name: str) -> Claim:
        match claim:
            case Differs():
                return claim
            case Fresh():
                return Fresh(degraded=True)
            case _:
                return replace(claim, degraded=self._here_only(claim, name))

    def _here_only(self, sight: Running | Done, name: str) -> bool:
        return isinstance(sight, Running) or name in self._owed
