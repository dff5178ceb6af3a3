"""ONNX models under onnxruntime, with batches of our own: INT8, INT4 and 32-bit, on a CPU.

A folder for onnxruntime-genai is loaded, but not by it: on a CPU its engine runs four sequences
to the end before it takes the next, and shows no probabilities (docs/adr/0015-onnx.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forebay.core.knob import knob
from forebay.core.request import Sampling, TokenId
from forebay.engine.manifest import ArtefactError, Form, Manifest, load_verified
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
from forebay.engines.kv_memory import BLOCK_TOKENS, KvConfig, KvPlan, KvShape, plan_kv
from forebay.engines.machine import read_machine
from forebay.engines.onnx_batch import Batch, Growing
from forebay.engines.onnx_decoder import OnnxDecoder
from forebay.engines.onnx_folder import OnnxModel, read_model
from forebay.engines.onnx_rows import KvRows
from forebay.engines.onnx_sampling import Chosen, best, choose
from forebay.engines.sampling_bounds import check_request
from forebay.engines.step_measuring import measure

_LIBRARY_BYTES: Final = 350 << 20
"""The library and a step's activations: 180 to 390 MB measured with 135 million weights."""
_WEIGHTS_FACTOR: Final = 1.6
"""Weights are packed into the kernels' own order beside the file: 1.52 measured, in 32 bits."""
_CHUNK_TOKENS_MIN: Final = 16
"""Prompts go on, however many sequences are being answered."""
_NOT_FINITE: Final = "The model's numbers are not finite: its weights or precision do not hold."


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxConfig(KvConfig):
    """How the ONNX engine uses this machine."""

    sequences_running_max: int = knob(32, "Sequences that run in one batch.", minimum=1, maximum=64)
    batched_tokens_max: int = knob(
        256,
        "Tokens computed in one step: longer prompts are spread over steps.",
        minimum=32,
        maximum=65_536,
    )
    threads: int = knob(
        0, "Threads that compute; 0: the processors we may use.", minimum=0, maximum=1_024
    )
    step_s_max: float = knob(
        10.0,
        "Longest that one step may take before the worker counts as stalled, seconds; for large "
        "models more, as measured while loading.",
        minimum=1.0,
        maximum=600.0,
    )


class OnnxStepEngine:
    """A `StepEngine` over an onnxruntime session."""

    def __init__(self, config: OnnxConfig, folder: Path) -> None:
        """Load a prepared model; raise ArtefactError or TooLittleMemory with the fix."""
        manifest = load_verified(folder)
        model = read_model(folder)
        _check_alike(model, manifest)
        machine = read_machine()
        shape = KvShape(
            layers=model.layers,
            kv_heads=model.kv_heads,
            head_size=model.head_size,
            element_bytes=4,
        )
        plan = _size(config, manifest, shape, free_bytes=machine.memory_bytes)
        self._tokenizer = ModelTokenizer.load(folder)
        threads = config.threads or machine.processors
        context = min(manifest.context_tokens_max, plan.tokens - BLOCK_TOKENS)
        self._decoder = OnnxDecoder(model, threads=threads)
        self._rows = _rows(shape, rows=config.sequences_running_max + 1, tokens_max=context)
        self._decoder.attach(self._rows)
        self._ends = frozenset(manifest.eos_token_ids)
        self._chunk_tokens_max = config.batched_tokens_max
        # All mutable state, beside the rows': who runs and waits, a counter.
        self._batch = Batch(
            self._rows,
            running_max=config.sequences_running_max,
            blocks_max=plan.blocks,
            block_tokens=BLOCK_TOKENS,
        )
        self._tokens_made = 0
        supports = (
            EVERY_ENGINE - {Feature.JSON_OBJECT, Feature.JSON_SCHEMA}
        ) | self._tokenizer.features
        self._info = EngineInfo(
            name="onnx",
            context_tokens_max=context,
            running_max=config.sequences_running_max,
            supports=supports,
            # Kernels for one row and for many sum in another order, and the last bits differ.
            deterministic=False,
            resumable=supports,
            step_s_max=config.step_s_max,
            kv_bytes=plan.bytes,
            kv_tokens_max=plan.tokens,
            vocabulary_size=manifest.vocabulary_size,
            detail=f"weights {manifest.precision}; {threads} threads; up to "
            f"{config.sequences_running_max} sequences of {context} tokens; KV cache "
            f"{plan.bytes / 1e6:.0f} MB for {plan.tokens} tokens",
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
        self._batch.add(Growing.begun(id, prompt_token_ids, sampling, made=made))

    def abort(self, id: SequenceId) -> None:
        """Forget a sequence, and take its memory back."""
        self._batch.drop(id)

    def step(self) -> Sequence[StepOutput]:
        """Make a token of each sequence that is answered, and read what it can of prompts."""
        self._batch.make_room()
        outputs = self._extend(list(self._batch.answering))
        left = max(_CHUNK_TOKENS_MIN, self._chunk_tokens_max - len(outputs))
        while left > 0 and (chunk := self._batch.chunk(left)) is not None:
            left -= chunk.count
            logits = self._decoder.read(chunk.row, chunk.token_ids, past=chunk.sequence.read)
            if self._batch.advance(chunk):
                outputs += self._answer([chunk.sequence], logits)
        return outputs

    def stats(self) -> StepStats:
        """Return the gauges."""
        used = self._batch.blocks_used * BLOCK_TOKENS
        return StepStats(
            running=len(self._batch.running),
            waiting=len(self._batch.waiting),
            blocks_used_ratio=min(1.0, used / self._info.kv_tokens_max),
            tokens_made=self._tokens_made,
        )

    def close(self) -> None:
        """Give the memory back."""
        for sequence in (*self._batch.running, *self._batch.waiting):
            self._batch.drop(sequence.id)
        self._decoder.close()
        del self._rows, self._batch

    def _extend(self, answering: Sequence[Growing]) -> list[StepOutput]:
        if not answering:
            return []
        newest = [sequence.tokens[-1] for sequence in answering]
        logits = self._decoder.extend(newest, [len(sequence.tokens) for sequence in answering])
        for sequence in answering:
            sequence.read += 1
        return self._answer(answering, logits)

    def _answer(self, sequences: Sequence[Growing], logits: Any) -> list[StepOutput]:  # noqa: ANN401 - numpy's
        """Choose the next token of each sequence, and let those go that end with it."""
        outputs = []
        for row, (sequence, greedy) in enumerate(zip(sequences, best(logits), strict=True)):
            output = self._output(sequence, logits[row], greedy)
            outputs.append(output)
            if output.finish_reason is not None or output.failure is not None:
                self._batch.drop(sequence.id)
        return outputs

    def _output(self, sequence: Growing, logits: Any, greedy: Chosen | None) -> StepOutput:  # noqa: ANN401 - numpy's
        """Add a token to a sequence, and say so."""
        if greedy is None:
            return StepOutput(id=sequence.id, token_ids=(), failure=_NOT_FINITE)
        banned = sequence.banned(self._ends)
        chosen = choose(logits, greedy, sequence.sampling, made=sequence.made, banned=banned)
        self._tokens_made += 1
        return sequence.grow(chosen.token_id, chosen.logprob, ends=self._ends)


def _check_alike(model: OnnxModel, manifest: Manifest) -> None:
    """Raise ArtefactError where the graph's own sizes contradict the manifest's."""
    pairs = (
        ("layers", model.layers, manifest.layers),
        ("KV heads", model.kv_heads, manifest.kv_heads),
        ("numbers a head", model.head_size, manifest.head_size),
        ("tokens of vocabulary", model.vocabulary_size, manifest.vocabulary_size),
    )
    for what, found, said in pairs:
        if found != said:
            raise ArtefactError(
                f"genai_config.json says {found} {what}, the manifest {said}. Remove the folder "
                "and run `forebay pull MODEL` again."
            )


def _size(config: OnnxConfig, manifest: Manifest, shape: KvShape, *, free_bytes: int) -> KvPlan:
    useful = config.sequences_running_max * manifest.context_tokens_max
    return plan_kv(
        shape,
        config.wish("onnx", tokens_useful=useful),
        free_bytes=free_bytes,
        reserved_bytes=int(manifest.weights_bytes * _WEIGHTS_FACTOR) + _LIBRARY_BYTES,
    )


def _rows(shape: KvShape, *, rows: int, tokens_max: int) -> KvRows:
    try:
        return KvRows(shape, rows=rows, tokens_max=tokens_max)
    except (OSError, MemoryError) as error:
        raise ArtefactError(
            f"The machine grants no address space for {rows} sequences of {tokens_max} tokens "
            f"({error}). Lower onnx.sequences_running_max, or raise the limit (ulimit -v)."
        ) from error


def _make(config: OnnxConfig, folder: Path | None) -> OnnxStepEngine:
    assert folder is not None, "its form says so"
    return OnnxStepEngine(config, folder)


KIND: Final = EngineKind(
    name="onnx", config=OnnxConfig, form=Form.ONNX, needs=("onnxruntime",), make=_make
)
