"""The LoRA adapters of one model: which its workers have, and orders to them that are under way."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from forebay.core.errors import EngineError, Invalid
from forebay.engine.wire import Adapted, Down, LoadAdapter, UnloadAdapter

Send = Callable[[Down], None]

_LOST: Final = "The worker was lost while it loaded the adapter. Order it again."
_LATE: Final = "The worker did not load the adapter in time. Order it again."
_ABSENT: Final = "There is no worker at the moment that could load the adapter. Order it again."
_TWICE: Final = "An adapter of that name is being loaded. Wait until it is."


class Adapters:
    """What each worker of one supervisor is to have.

    Mutable state: the adapters by name, and the orders that the present worker has not answered.
    """

    def __init__(self, known: Mapping[str, Path]) -> None:
        """Let every worker have these from its start."""
        self._known = dict(known)
        self._orders: dict[str, asyncio.Future[str]] = {}

    @property
    def known(self) -> Mapping[str, Path]:
        """Name -> folder, as the next worker gets them."""
        return dict(self._known)

    async def load(self, name: str, folder: Path, send: Send | None, *, wait_s_max: float) -> None:
        """Let the present worker load one, and each that follows it.

        Raises Invalid with the worker's own words where it does not fit, EngineError otherwise.
        """
        if send is None:
            raise EngineError(_ABSENT)
        if name in self._orders:
            raise Invalid(_TWICE, status=409)
        answer = self._orders[name] = asyncio.get_running_loop().create_future()
        try:
            send(LoadAdapter(name, str(folder)))
            async with asyncio.timeout(wait_s_max):
                error = await answer
        except (TimeoutError, asyncio.CancelledError) as gave_up:
            send(UnloadAdapter(name))  # the worker may have it later all the same
            if isinstance(gave_up, TimeoutError):
                raise EngineError(_LATE) from None
            raise
        finally:
            del self._orders[name]
        if error:
            raise Invalid(error, param="source")
        self._known[name] = folder

    def unload(self, name: str, send: Send | None) -> None:
        """Let no worker have it any more; an unknown name is no error."""
        if self._known.pop(name, None) is not None and send is not None:
            send(UnloadAdapter(name))

    def told(self, adapted: Adapted) -> None:
        """Take the worker's answer to an order; one that nobody waits for is passed over."""
        answer = self._orders.get(adapted.name)
        if answer is not None and not answer.done():
            answer.set_result(adapted.error)

    def lost(self) -> None:
        """End the orders that nobody will answer: the worker is lost."""
        for answer in self._orders.values():
            if not answer.done():
                answer.set_exception(EngineError(_LOST))
