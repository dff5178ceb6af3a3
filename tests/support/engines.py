"""Engines that live in the test: they do what they are told, and count what they hold."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from forebay.core.errors import EngineError
from forebay.core.record import Holding
from forebay.core.request import Delta, EngineTiming, Events, Finished, Request, Scheduled, Usage
from forebay.engine.protocol import EngineInfo, Feature, StepStats

Script = Callable[[Request], str]


class Unworked:
    """What a lane asks of an engine that has no workers."""

    restarts: Mapping[str, int] = MappingProxyType({})
    reruns = 0
    poisoned = 0
    bytes_taken = 0
    adapters: Mapping[str, Path] = MappingProxyType({})

    def well(self, now: float) -> bool:
        return True

    def gauges(self) -> StepStats | None:
        return None

    def holdings(self) -> Iterator[Holding]:
        return iter(())

    def memory_bytes(self) -> int:
        return self.bytes_taken

    async def load_adapter(self, name: str, folder: Path) -> None:
        self.adapters = {**self.adapters, name: folder}

    def unload_adapter(self, name: str) -> None:
        self.adapters = {each: folder for each, folder in self.adapters.items() if each != name}


class PuppetEngine(Unworked):
    """Plays a script per request: a letter is an act.

    `d` a delta, `p` a pause of a millisecond, `f` the finish, `e` an engine error,
    `b` a defect (ZeroDivisionError), `h` hangs until closed.
    """

    def __init__(self, script: Script = lambda _: "ddf", running_max: int = 4) -> None:
        self.info = EngineInfo(
            name="puppet",
            context_tokens_max=1000,
            running_max=running_max,
            supports=frozenset(Feature),
        )
        self._script = script
        self.held = 0
        self.tokens = 0

    async def start(self) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Nothing to give back."""

    def progress(self) -> int:
        return self.tokens

    async def generate(self, request: Request) -> Events:
        self.held += 1
        try:
            yield Scheduled(prompt_tokens=1)
            for act in self._script(request):
                match act:
                    case "d":
                        self.tokens += 1
                        yield Delta("x")
                    case "p":
                        await asyncio.sleep(0.001)
                    case "f":
                        yield Finished(Usage(1, 1), EngineTiming())
                    case "e":
                        raise EngineError("The script says so.")
                    case "b":
                        raise ZeroDivisionError
                    case "h":
                        await asyncio.Event().wait()
        finally:
            self.held -= 1
