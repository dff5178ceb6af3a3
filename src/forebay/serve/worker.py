"""What replicas ask of each worker: the supervisor's side that they know."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from forebay.core.record import Holding
from forebay.core.request import Request
from forebay.engine.flights import Flight, Watcher
from forebay.engine.protocol import Engine, StepStats
from forebay.engine.supervisor import Crew
from forebay.policy.quarantine import Passenger


class Worker(Engine, Protocol):
    """An Engine over one worker at a time."""

    crew: Crew | None

    @property
    def able(self) -> bool:
        """Whether it takes requests, and has made a token."""

    @property
    def stopped(self) -> bool:
        """Whether it will never take any again."""

    @property
    def restarts(self) -> Mapping[str, int]:
        """Workers lost, by reason."""

    def board(
        self,
        request: Request,
        passenger: Passenger | None = None,
        *,
        watch: Watcher | None = None,
    ) -> Flight:
        """Begin to answer a request of a passenger; `watch` is told what is made of it.

        Raises EngineError, and WorkerLost if it is lost.
        """

    def leave(self, flight: Flight) -> None:
        """Let go of a request, wherever it is."""

    def well(self, now: float) -> bool:
        """Whether it makes tokens while work runs."""

    def memory_bytes(self) -> int:
        """Return the memory that its process has in RAM."""

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Let it have a LoRA adapter; raises Invalid if that does not fit, or EngineError."""

    def unload_adapter(self, name: str) -> None:
        """Let it have a LoRA adapter no more."""

    def gauges(self) -> StepStats | None:
        """Return its newest gauges, if there are any."""

    def holdings(self) -> Iterator[Holding]:
        """Yield what it holds for whom."""
