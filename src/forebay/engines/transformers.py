"""torch and Hugging Face transformers, on a GPU or a processor: any model, and LoRA adapters.

The library has a continuous batching of its own, and it cannot keep our promises: it samples all
sequences or none, has one seed for all, knows no penalties and no adapter per sequence
(`docs/adr/0018-transformers.md`).  So the model computes, and whose token is whose is ours:
`transformers_batch` decides what a step reads, `transformers_kv` keeps what was read, and
`transformers_sampling` chooses.
"""

import ctypes
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from forebay.core.request import FinishReason, Sampling, TokenId
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
from forebay.engines.transformers_adapters import AdapterLimits, Adapters
from forebay.engines.transformers_batch import Batch, Growing
from forebay.engines.transformers_kv import KvStore
from forebay.engines.transformers_loading import load
from forebay.engines.transformers_model import BatchedModel, arrange
from forebay.engines.transformers_precision import TransformersConfig
from forebay.engines.transformers_sampling import Wish, choose

_NOT_FINITE: Final = "The model's numbers overflowed on this sequence; try another precision."


class TransformersStepEngine:
    """A `StepEngine` over a model in torch."""

    def __init__(self, config: TransformersConfig, folder: Path) -> None:
        """Load a prepared model; raise CannotLoad with the fix."""
        manifest = load_verified(folder)
        self._tokenizer = ModelTokenizer.load(folder)
        self._loaded = loaded = load(config, manifest, folder)
        plan, numbers = loaded.plan, loaded.numbers
        context = min(manifest.context_tokens_max, plan.tokens // 2)
        self._store = KvStore(
            loaded.shape,
            tokens_max=plan.tokens,
            length_max=context,
            dtype=numbers.compute,
            device=numbers.device,
        )
        self._model = BatchedModel(loaded.model, self._store, device=numbers.device)
        self._model.prove(manifest.vocabulary_size)
        limits = AdapterLimits(config.adapters_max, config.adapter_bytes_max)
        self._adapters = Adapters(loaded.model, limits)
        self._ends = frozenset(manifest.eos_token_ids)
        # All mutable state, beside the store's and the adapters': who runs and waits, a counter.
        self._batch = Batch(
            self._store,
            running_max=config.sequences_running_max,
            tokens_max=config.batched_tokens_max,
        )
        self._tokens_made = 0
        supports = EVERY_ENGINE - {Feature.JSON_OBJECT, Feature.JSON_SCHEMA}
        supports |= self._tokenizer.features | {Feature.EMBEDDINGS}
        if config.adapters_max:
            supports |= {Feature.ADAPTERS}
        self._info = EngineInfo(
            name="transformers",
            context_tokens_max=context,
            running_max=config.sequences_running_max,
            supports=supports,
            # A batch of another size sums in another order, and the last bits differ.
            deterministic=False,
            resumable=supports,
            step_s_max=config.step_s_max,
            kv_bytes=plan.bytes,
            kv_tokens_max=plan.tokens,
            vocabulary_size=manifest.vocabulary_size,
            embedding_size=manifest.width,
            detail=f"weights {numbers.precision} on {numbers.device.type}; computing in "
            f"{str(numbers.compute).removeprefix('torch.')}; KV cache {plan.bytes / 1e6:.0f} MB "
            f"for {plan.tokens} tokens",
            device=numbers.device.type,
        )
        measured = measure(self, tokens_max=config.batched_tokens_max)
        self._info = measured.told(self._info, batched_tokens=config.batched_tokens_max)
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
        check_request([*prompt_token_ids, *made], sampling, self._info)
        sequence = Growing.begun(id, prompt_token_ids, sampling, made=made)
        sequence.adapter = self._adapters.take(sampling.adapter) or ""
        self._batch.add(sequence)

    def abort(self, id: SequenceId) -> None:
        """Forget a sequence, and take its memory back."""
        self._drop([id])

    def step(self) -> Sequence[StepOutput]:
        """Run one iteration."""
        planned = self._batch.plan()
        if not planned:
            return []
        shares = arrange(planned)
        self._adapters.choose(
            [share.sequence.adapter for share in shares for _ in range(share.count)]
        )
        ended = [share.sequence for share in shares if share.last]
        logits = self._model.read(shares)
        outputs = [self._embedded(sequence) for sequence in ended if sequence.sampling.embed]
        answered = [sequence for sequence in ended if not sequence.sampling.embed]
        if answered:
            outputs += self._answered(answered, logits)
        self._drop(
            [one.id for one in outputs if one.finish_reason is not None or one.failure is not None]
        )
        return outputs

    def _answered(self, answered: list[Growing], logits: Any) -> list[StepOutput]:  # noqa: ANN401 - torch's
        """Choose the next token of each."""
        chosen = choose(logits, [self._wish(sequence) for sequence in answered])
        logprobs = chosen.logprobs or [0.0] * len(answered)
        return [
            self._output(sequence, token, odds)
            for sequence, token, odds in zip(answered, chosen.token_ids, logprobs, strict=True)
        ]

    def _embedded(self, sequence: Growing) -> StepOutput:
        """Return the vector of a sequence that is read."""
        vector = self._model.pooling.take(sequence.id)
        if not vector:
            self._store.wipe(sequence.row)
            return StepOutput(id=sequence.id, token_ids=(), failure=_NOT_FINITE)
        return StepOutput(
            id=sequence.id, token_ids=(), finish_reason=FinishReason.STOP, embedding=vector
        )

    def stats(self) -> StepStats:
        """Return the gauges."""
        return StepStats(
            running=len(self._batch.running),
            waiting=len(self._batch.waiting),
            blocks_used_ratio=self._store.tokens_held / self._info.kv_tokens_max,
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
        import torch  # noqa: PLC0415 - heavy

        self._drop([*self._batch.running, *(one.id for one in self._batch.waiting)])
        self._store.close()
        del self._model, self._adapters, self._loaded
        gc.collect()  # a model of modules and hooks is full of cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if give_back is not None:
            give_back(0)

    def _wish(self, sequence: Growing) -> Wish:
        banned = sequence.banned(self._ends)
        return Wish(sampling=sequence.sampling, made=sequence.made, banned=banned)

    def _output(self, sequence: Growing, token: TokenId | None, odds: float) -> StepOutput:
        """Add a token to a sequence, and say so."""
        if token is None:
            self._store.wipe(sequence.row)
            return StepOutput(id=sequence.id, token_ids=(), failure=_NOT_FINITE)
        self._tokens_made += 1
        wished = sequence.sampling.logprobs
        return sequence.grow(token, odds if wished else None, ends=self._ends)

    def _drop(self, ids: Sequence[SequenceId]) -> None:
        self._model.pooling.forget(ids)
        for sequence in self._batch.drop(ids):
            if sequence.adapter:
                self._adapters.give_back(sequence.adapter)


def _make(config: TransformersConfig, folder: Path | None) -> TransformersStepEngine:
    assert folder is not None, "its form says so"
    return TransformersStepEngine(config, folder)


KIND: Final = EngineKind(
    name="transformers",
    config=TransformersConfig,
    form=Form.SAFETENSORS,
    needs=("torch", "transformers"),
    make=_make,
)
