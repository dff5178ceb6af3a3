"""OpenVINO GenAI's continuous batching, driven step by step: the default engine on a CPU.

What the library does not do safely is settled before it is asked.  An exception inside its
`step` loses every sequence, so each value that could cause one is refused in `submit`; a
sequence that outgrows the whole KV cache is dropped by it in silence, so none is let in that
could.  Its metrics are only refreshed by a step that schedules something, so sequences are
counted here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forebay.core.knob import knob
from forebay.core.request import FinishReason, Sampling, TokenId
from forebay.engine.manifest import Form, Manifest, load_verified
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
from forebay.engines.kv_memory import KvConfig, KvPlan, KvShape, plan_kv
from forebay.engines.machine import read_machine
from forebay.engines.openvino_generation import generation_config
from forebay.engines.sampling_bounds import check_request
from forebay.engines.step_measuring import measure

_LIBRARY_BYTES: Final = 400 << 20
"""The library, its kernels and a step's activations: 383 MB measured with a 135 MB model."""
_WEIGHTS_FACTOR: Final = 1.5
"""Weights are packed into the kernels' own order while they are loaded."""

_RESUMABLE: Final = (EVERY_ENGINE | {Feature.CHAT}) - {
    # A grammar's state cannot be handed in, and penalties count no tokens of the prompt.
    *(Feature.JSON_OBJECT, Feature.JSON_SCHEMA),
    *(Feature.PRESENCE_PENALTY, Feature.FREQUENCY_PENALTY),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVinoConfig(KvConfig):
    """How the OpenVINO engine uses this machine."""

    sequences_running_max: int = knob(
        64, "Sequences that run in one batch.", minimum=1, maximum=1_024
    )
    batched_tokens_max: int = knob(
        512,
        "Tokens computed in one step: longer prompts are spread over steps.",
        minimum=32,
        maximum=65_536,
    )
    prefix_cache: bool = knob(default=True, help="Share the KV blocks of equal prompt beginnings.")
    threads: int = knob(
        0, "Threads that compute; 0: the processors we may use.", minimum=0, maximum=1_024
    )
    compute: str = knob(
        "f32",
        "What activations are computed in. bf16 may be faster on processors that have it, and "
        "answers otherwise than f32: the same request then depends on the machine.",
        choices=("f32", "bf16"),
    )
    step_s_max: float = knob(
        10.0,
        "Longest that one step may take before the worker counts as stalled, seconds; for large "
        "models more, as measured while loading.",
        minimum=1.0,
        maximum=600.0,
    )


@dataclass(slots=True)
class _Sequence:
    """One running sequence.  `made` counts its tokens so far."""

    handle: Any
    end_token_ids: frozenset[int]
    logprobs: bool
    made: int = 0


class OpenVinoStepEngine:
    """A `StepEngine` over `ContinuousBatchingPipeline`."""

    # All mutable state: the sequences that are not finished, whether an abort waits for a step
    # to give its memory back, the next id of the library, the token counter.

    def __init__(self, config: OpenVinoConfig, folder: Path) -> None:
        """Load a prepared model; raise ArtefactError or TooLittleMemory with the fix."""
        manifest = load_verified(folder)
        machine = read_machine()
        self._plan = _size(config, manifest, folder, free_bytes=machine.memory_bytes)
        self._tokenizer = ModelTokenizer.load(folder)
        threads = config.threads or machine.processors
        self._pipeline = _load(config, self._plan, folder, threads=threads)
        self._ends = frozenset(manifest.eos_token_ids)
        self._sequences: dict[SequenceId, _Sequence] = {}
        self._abort_pending = False
        self._library_id = 0
        self._tokens_made = 0
        self._info = EngineInfo(
            name="openvino",
            # One block is held back: a sequence may need it before another's is given back.
            context_tokens_max=min(manifest.context_tokens_max, self._plan.tokens - 32),
            running_max=config.sequences_running_max,
            supports=EVERY_ENGINE | self._tokenizer.features,
            # Measured: a sequence alone takes another path through attention than one beside
            # others, and the last bits differ.
            deterministic=False,
            resumable=_RESUMABLE,
            step_s_max=config.step_s_max,
            kv_bytes=self._plan.bytes,
            kv_tokens_max=self._plan.tokens,
            vocabulary_size=manifest.vocabulary_size,
            detail=f"weights {manifest.precision}; computing in {config.compute} on {threads} "
            f"threads; KV cache {self._plan.bytes / 1e6:.0f} MB for {self._plan.tokens} tokens",
        )
        measured = measure(
            self,
            tokens_max=min(config.batched_tokens_max, self._plan.tokens // 4),
            sequences_max=self._plan.blocks // 2,
        )
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
        """Queue a sequence, or raise Refused; tokens already made are the end of its prompt."""
        import numpy as np  # noqa: PLC0415 - heavy
        import openvino  # noqa: PLC0415 - heavy

        assert id not in self._sequences, "the worker numbers its sequences"
        token_ids = [*prompt_token_ids, *made]
        check_request(token_ids, sampling, self._info)
        generation = generation_config(sampling, self._ends)
        # The library loses everything when an id comes twice, so the ids are our own.
        self._library_id += 1
        prompt = openvino.Tensor(np.array([token_ids], dtype=np.int64))
        self._sequences[id] = _Sequence(
            handle=self._pipeline.add_request(self._library_id, prompt, generation),
            end_token_ids=frozenset() if sampling.ignore_eos else self._ends,
            logprobs=sampling.logprobs,
        )

    def abort(self, id: SequenceId) -> None:
        """Forget a sequence; the next `step` gives its memory back."""
        if sequence := self._sequences.pop(id, None):
            sequence.handle.cancel()
            self._abort_pending = True

    def step(self) -> Sequence[StepOutput]:
        """Run one iteration."""
        if not self._sequences and not self._abort_pending:
            return []
        self._pipeline.step()
        self._abort_pending = False
        outputs = []
        for id_, sequence in list(self._sequences.items()):
            output = self._read(id_, sequence)
            if output is not None:
                outputs.append(output)
                if output.finish_reason is not None or output.failure is not None:
                    del self._sequences[id_]
        return outputs

    def stats(self) -> StepStats:
        """Return the gauges."""
        running = sum(1 for sequence in self._sequences.values() if sequence.made)
        # At rest the library still reports its last step.
        used = self._pipeline.get_metrics().cache_usage if self._sequences else 0.0
        return StepStats(
            running=running,
            waiting=len(self._sequences) - running,
            blocks_used_ratio=min(1.0, used / 100.0),
            tokens_made=self._tokens_made,
        )

    def close(self) -> None:
        """Give the memory back."""
        for id_ in list(self._sequences):
            self.abort(id_)
        if self._abort_pending:
            self._pipeline.step()
            self._abort_pending = False
        del self._pipeline

    def _read(self, id_: SequenceId, sequence: _Sequence) -> StepOutput | None:
        """Return what the step made of one sequence; None if nothing."""
        import openvino_genai  # noqa: PLC0415 - heavy

        handle = sequence.handle
        if not handle.can_read():
            if handle.get_status() == openvino_genai.GenerationStatus.RUNNING:
                return None
            return StepOutput(id=id_, token_ids=(), failure="The engine ran out of KV memory.")
        (made,) = handle.read().values()
        tokens, odds = list(made.generated_ids), list(made.generated_log_probs)
        sequence.made += len(tokens)
        self._tokens_made += len(tokens)
        reasons = openvino_genai.GenerationFinishReason
        hidden = 0
        reason = None
        if made.finish_reason == reasons.LENGTH:
            reason = FinishReason.LENGTH
        elif made.finish_reason != reasons.NONE:
            reason = FinishReason.STOP
            while tokens and tokens[-1] in sequence.end_token_ids:
                tokens.pop()
                hidden += 1
        return StepOutput(
            id=id_,
            token_ids=tokens,
            finish_reason=reason,
            logprobs=odds[: len(tokens)] if sequence.logprobs else (),
            tokens_hidden=hidden,
        )


def _size(config: OpenVinoConfig, manifest: Manifest, folder: Path, *, free_bytes: int) -> KvPlan:
    weights = sum((folder / name).stat().st_size for name in manifest.files)
    useful = config.sequences_running_max * manifest.context_tokens_max
    return plan_kv(
        KvShape.of(manifest, element_bytes=2),
        config.wish("openvino", tokens_useful=useful),
        free_bytes=free_bytes,
        reserved_bytes=int(weights * _WEIGHTS_FACTOR) + _LIBRARY_BYTES,
    )


def _load(config: OpenVinoConfig, plan: KvPlan, folder: Path, *, threads: int) -> Any:  # noqa: ANN401 - the library has no types
    """Return the pipeline."""
    import openvino_genai  # noqa: PLC0415 - heavy

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.num_kv_blocks = plan.blocks
    scheduler.cache_size = 0
    scheduler.max_num_seqs = config.sequences_running_max
    scheduler.max_num_batched_tokens = config.batched_tokens_max
    scheduler.enable_prefix_caching = config.prefix_cache
    scheduler.dynamic_split_fuse = True
    properties = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": config.compute,
        "NUM_STREAMS": 1,
    }
    return openvino_genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", properties)


def _make(config: OpenVinoConfig, folder: Path | None) -> OpenVinoStepEngine:
    assert folder is not None, "its form says so"
    return OpenVinoStepEngine(config, folder)


KIND: Final = EngineKind(
    name="openvino",
    config=OpenVinoConfig,
    form=Form.OPENVINO,
    needs=("openvino_genai",),
    make=_make,
)
