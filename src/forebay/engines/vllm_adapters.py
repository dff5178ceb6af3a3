"""LoRA adapters in vLLM: loaded by name, kept until nobody uses them.

The library would read a folder anew whenever a sequence asks for an adapter that it has let go,
and in the middle of a step, where a folder that is gone ends the engine.  So it is never asked
for more than it has places for, and an adapter leaves when its last sequence has ended.
"""

import itertools
from pathlib import Path
from typing import Any, Final

from forebay.engine.protocol import CannotLoad
from forebay.engines.named_adapters import NamedAdapters
from forebay.engines.vllm_sampling import refusals

_WEIGHTS: Final = "adapter_model.safetensors"


class Adapters(NamedAdapters[Any]):
    """The adapters over one model: `LoRARequest`s, which are told apart by their names."""

    def __init__(self, engine: Any, *, count_max: int) -> None:  # noqa: ANN401 - the library's
        """Begin with none."""
        super().__init__(engine="vllm", count_max=count_max)
        self._engine = engine
        # All mutable state, beside the names'.
        self._numbers = itertools.count(1)

    def load(self, name: str, folder: Path) -> None:
        """Load a PEFT folder; the one that had its name before is asked no more."""
        from vllm.lora.request import LoRARequest  # noqa: PLC0415 - heavy

        self._require_room(name)
        if self.kept > self._count_max:
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
        self._give(name, request)

    def _drop(self, adapter: Any) -> None:  # noqa: ANN401 - the library's
        self._engine.remove_lora(adapter.lora_int_id)
