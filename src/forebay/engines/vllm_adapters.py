"""LoRA adapters in vLLM: loaded by name, kept until nobody uses them.

The library would read a folder anew whenever a sequence asks for an adapter that it has let go,
and in the middle of a step, where a folder that is gone ends the engine.  So it is never asked
for more than it has places for, and an adapter leaves when its last sequence has ended.
"""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any, Final

from forebay.engine.protocol import CannotLoad
from forebay.engines.vllm_sampling import refusals

_WEIGHTS: Final = "adapter_model.safetensors"


class Adapters:
    """The adapters over one model."""

    def __init__(self, engine: Any, *, count_max: int) -> None:  # noqa: ANN401 - the library's
        """Begin with none."""
        self._engine = engine
        self._count_max = count_max
        self._numbers = itertools.count(1)
        # The whole mutable state.
        self._requests: dict[str, Any] = {}
        """Name -> the library's `LoRARequest`, whose number is never used twice."""
        self._users: Counter[int] = Counter()
        """Number -> sequences that use it; one without a name stays until there are none."""

    def names(self) -> list[str]:
        """Return the names that a request may ask for, sorted."""
        return sorted(self._requests)

    def take(self, name: str) -> Any:  # noqa: ANN401 - the library's
        """Return what a sequence that will use it says to the library; None: there is none."""
        request = self._requests.get(name)
        if request is not None:
            self._users[request.lora_int_id] += 1
        return request

    def give_back(self, number: int) -> None:
        """Note that a sequence uses an adapter no more."""
        self._users[number] -= 1
        if not self._users[number]:
            del self._users[number]
            if number not in self._named():
                self._engine.remove_lora(number)

    def load(self, name: str, folder: Path) -> None:
        """Load a PEFT folder; the one that had its name before is asked no more."""
        from vllm.lora.request import LoRARequest  # noqa: PLC0415 - heavy

        if name not in self._requests and len(self._requests) >= self._count_max:
            raise CannotLoad(
                f"{len(self._requests)} adapters are loaded, which is vllm.adapters_max. "
                "Unload one first."
            )
        if len(self._named() | self._users.keys()) > self._count_max:
            raise CannotLoad(
                "An adapter that was unloaded or replaced is still in use. Try again when its "
                "answers have ended, or raise vllm.adapters_max."
            )
        if not (folder / _WEIGHTS).is_file():
            raise CannotLoad(f"{folder} lacks {_WEIGHTS}. Pickled weights are never read.")
        number = next(self._numbers)
        # The name goes into the keys of the prefix cache: it must not be used twice either.
        request = LoRARequest(f"{number}:{name}", number, str(folder))
        try:
            self._engine.add_lora(request)
        except refusals(OSError, LookupError, RuntimeError, TypeError, AssertionError) as error:
            self._engine.remove_lora(number)
            raise CannotLoad(
                f"{folder} cannot be laid over this model: {type(error).__name__}, "
                f"{str(error)[:300]}. It must be a plain LoRA of this base, of a rank up to "
                "vllm.adapter_rank_max."
            ) from error
        self.unload(name)
        self._requests[name] = request

    def unload(self, name: str) -> None:
        """Forget an adapter; an unknown name is no error."""
        request = self._requests.pop(name, None)
        if request is not None and not self._users[request.lora_int_id]:
            self._engine.remove_lora(request.lora_int_id)

    def _named(self) -> set[int]:
        return {request.lora_int_id for request in self._requests.values()}
