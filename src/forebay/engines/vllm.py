"""vLLM: continuous batching on GPUs, and on processors where its build for them is installed.

The library's `LLMEngine` runs in this process and is driven step by step.  It gets token ids and
gives token ids: text is ours.  Its log probabilities are of the model's own odds, its penalties
count the answer's tokens only, and each sequence draws with a generator of its own.

What goes on in the middle of an answer is given to it as part of the prompt, so a penalty would
not count it, and a grammar would begin anew: for these it does not go on (`info.resumable`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from forebay.core.request import Sampling, TokenId
from forebay.engine.manifest import Form, load_verified
from forebay.engine.protocol import (
    EVERY_ENGINE,
    EngineInfo,
    Feature,
    SequenceId,
    StepOutput,
    StepStats,
    Tokenizer,
)
from forebay.engine.registry import EngineKind
from forebay.engine.text import ModelTokenizer
from forebay.engines.sampling_bounds import check_request
from forebay.engines.step_measuring import measure
from forebay.engines.vllm_adapters import Adapters
from forebay.engines.vllm_config import VllmConfig
from forebay.engines.vllm_loading import close, load
from forebay.engines.vllm_output import read_output
from forebay.engines.vllm_sampling import TEMPERATURE_MAX, refusal, refusals, sampling_params

_STEP_S_SHORT_MIN: Final = 1.0
"""By choice: a GPU's steps take milliseconds, and one that takes a second is no stall yet."""
_WAIT_S: Final = 0.001
"""How long a step waits where all sequences wait for their grammars, made on other threads."""
_MEASURED_TOKENS_MAX: Final = 512
_NOT_RESUMABLE: Final = frozenset(
    {Feature.JSON_OBJECT, Feature.JSON_SCHEMA}
    | {Feature.PRESENCE_PENALTY, Feature.FREQUENCY_PENALTY}
)


@dataclass(frozen=True, slots=True)
class _Running:
    """What is to be known of a sequence that has not ended."""

    sampling: Sampling
    adapter: Any
    """The library's own; None: none."""


class VllmStepEngine:
    """A `StepEngine` over `vllm.LLMEngine`."""

    def __init__(self, config: VllmConfig, folder: Path) -> None:
        """Load a prepared model; raise CannotLoad with the fix."""
        manifest = load_verified(folder)
        self._tokenizer = ModelTokenizer.load(folder)
        self._ends = frozenset(manifest.eos_token_ids)
        loaded = load(config, manifest, folder)
        self._engine = loaded.engine
        self._scheduler = loaded.engine.engine_core.engine_core.scheduler
        self._adapters = Adapters(loaded.engine, count_max=config.adapters_max)
        # All mutable state, beside the library's and the adapters': who has not ended, a counter.
        self._sequences: dict[SequenceId, _Running] = {}
        self._tokens_made = 0
        supports = EVERY_ENGINE | self._tokenizer.features
        if config.adapters_max:
            supports |= {Feature.ADAPTERS}
        self._info = EngineInfo(
            name="vllm",
            context_tokens_max=loaded.context_tokens_max,
            running_max=config.sequences_running_max,
            supports=supports,
            # A batch of another size sums in another order, and the last bits differ.
            deterministic=False,
            resumable=supports - _NOT_RESUMABLE,
            step_s_max=config.step_s_max,
            kv_bytes=loaded.kv_bytes,
            kv_tokens_max=loaded.kv_tokens_max,
            vocabulary_size=manifest.vocabulary_size,
            detail=f"weights {loaded.precision} on {loaded.device}; KV cache "
            f"{loaded.kv_bytes / 1e6:.0f} MB for {loaded.kv_tokens_max} tokens",
            device=loaded.device,
        )
        measured = measure(self, tokens_max=min(loaded.batched_tokens_max, _MEASURED_TOKENS_MAX))
        told = measured.told(self._info, batched_tokens=loaded.batched_tokens_max)
        self._info = replace(told, step_s_short=max(_STEP_S_SHORT_MIN, told.step_s_short or 0.0))
        self._tokens_made = 0

    @property
    def info(self) -> EngineInfo:
        """What it is and can do."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's text rules."""
        return self._tokenizer

    def submit(
        self,
        id: SequenceId,
        prompt_token_ids: Sequence[TokenId],
        sampling: Sampling,
        *,
        made: Sequence[TokenId] = (),
    ) -> None:
        """Queue a sequence, or raise Refused; what is made already is read like a prompt."""
        assert id not in self._sequences, "the worker numbers its sequences"
        token_ids = [*prompt_token_ids, *made]
        check_request(token_ids, sampling, self._info, temperature_max=TEMPERATURE_MAX)
        params = sampling_params(sampling, ends=self._ends, made=len(made))
        adapter = self._adapters.take(sampling.adapter)
        from vllm.inputs import tokens_input  # noqa: PLC0415 - heavy

        try:
            prompt = tokens_input(token_ids)
            self._engine.add_request(str(id), prompt, params, lora_request=adapter)
        except refusals() as error:
            if adapter is not None:
                self._adapters.give_back(adapter)
            raise refusal(error) from error
        self._sequences[id] = _Running(sampling, adapter)

    def abort(self, id: SequenceId) -> None:
        """Forget a sequence; the library takes its memory back at once."""
        if id in self._sequences:
            self._engine.abort_request([str(id)])
            self._forget(id)

    def step(self) -> Sequence[StepOutput]:
        """Run one iteration."""
        outputs = [self._hear(one) for one in self._engine.step()]
        if self._sequences and not outputs and not self._scheduler.running:
            time.sleep(_WAIT_S)
        return outputs

    def stats(self) -> StepStats:
        """Return the gauges."""
        running, waiting = self._scheduler.get_request_counts()
        return StepStats(
            running=running,
            waiting=waiting,
            blocks_used_ratio=self._scheduler.get_kv_cache_usage(),
            tokens_made=self._tokens_made,
        )

    def load_adapter(self, name: str, folder: Path) -> None:
        """Load a PEFT folder under a name; raises CannotLoad with the fix if it does not fit."""
        self._adapters.load(name, folder)

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; its memory is free when the last sequence with it has ended."""
        self._adapters.unload(name)

    def close(self) -> None:
        """Give the memory back."""
        for id in list(self._sequences):
            self.abort(id)
        engine = self._engine
        del self._engine, self._scheduler, self._adapters
        close(engine)

    def _hear(self, told: Any) -> StepOutput:  # noqa: ANN401 - the library's
        """Return what a step made of a sequence, and forget what has ended."""
        output = read_output(told, self._sequences[SequenceId(int(told.request_id))].sampling)
        self._tokens_made += len(told.outputs[0].token_ids)
        if told.finished:
            self._forget(output.id)
        elif output.failure is not None:
            self.abort(output.id)
        return output

    def _forget(self, id: SequenceId) -> None:
        adapter = self._sequences.pop(id).adapter
        if adapter is not None:
            self._adapters.give_back(adapter)


def _make(config: VllmConfig, folder: Path | None) -> VllmStepEngine:
    assert folder is not None, "its form says so"
    return VllmStepEngine(config, folder)


KIND: Final = EngineKind(
    name="vllm", config=VllmConfig, form=Form.SAFETENSORS, needs=("vllm",), make=_make
)
