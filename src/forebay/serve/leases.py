"""Claims that are held, and the task that renews them while their owners live."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from forebay.core.clock import Clock
from forebay.core.record import Holding
from forebay.serve.store import Store, StoreAway, Wish

_RENEWALS = 3
"""Renewals within one lease: two may fail, or come late, before it ends."""


@dataclass(slots=True)
class _Lease:
    wish: Wish
    lost: Callable[[], None]
    owner: str
    tenant: str
    since: float
    expires: float


class Leases:
    """Every claim of this process.  Who holds none costs nothing: the keeper sleeps only then."""

    def __init__(self, store: Store, now: Clock) -> None:
        """Renew in `store`."""
        self._store = store
        self._now = now
        # The whole mutable state.
        self._held: dict[str, _Lease] = {}
        self._keeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def held(
        self, wish: Wish, lost: Callable[[], None], *, owner: str, tenant: str
    ) -> Iterator[None]:
        """Renew a claim; `lost` is called, once, if another has it."""
        now = self._now()
        self._held[wish.owner] = _Lease(wish, lost, owner, tenant, now, now + wish.lease_s)
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(wish.lease_s / _RENEWALS))
        try:
            yield
        finally:
            self._held.pop(wish.owner, None)

    def holdings(self) -> Iterator[Holding]:
        """Yield each lease."""
        for lease in self._held.values():
            yield Holding(
                kind="lease",
                owner=lease.owner,
                tenant=lease.tenant,
                since=lease.since,
                expires=lease.expires,
            )

    async def stop(self) -> None:
        """End the keeper; what is still held ends by itself in time."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self, pause_s: float) -> None:
        while self._held:
            await asyncio.sleep(pause_s)
            await asyncio.gather(*(self._renew(lease) for lease in tuple(self._held.values())))

    async def _renew(self, lease: _Lease) -> None:
        try:
            renewed = await self._store.renew(lease.wish)
        except StoreAway:
            return  # who cannot be asked cannot have given it to another either
        if renewed:
            lease.expires = self._now() + lease.wish.lease_s
        elif self._held.pop(lease.wish.owner, None) is lease:
            lease.lost()
