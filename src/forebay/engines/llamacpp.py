"""llama.cpp, for the breadth of GGUF: its own server's batch, in threads of this process.

The library decides what runs in a step; it is asked on threads (`llamacpp_server.py`), and `step`
takes what they heard.  No more is asked at once than it has places and KV memory for, so what
waits, waits here, and can be aborted at once: a sequence reserves the tokens that it may use.

What it cannot do is not offered.  Log-probabilities: it is silent of tokens that end within a
character (`llamacpp_characters.py`).  The presence penalty: it counts the prompt's tokens, and
OpenAI's does not.  Adapters: it takes them while it loads the model, and never after.
"""

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

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
from forebay.engines.llamacpp_characters import SplitCharacters
from forebay.engines.llamacpp_completion import read_line, spaced_schema_of, wish
from forebay.engines.llamacpp_config import (
    KV_STEP_TOKENS,
    MODEL,
    LlamaCppConfig,
    check_model,
    context_tokens,
    size_kv,
)
from forebay.engines.llamacpp_sequence import Generation, Marks
from forebay.engines.llamacpp_server import Call, Calls, Sizes, open_server
from forebay.engines.machine import read_machine
from forebay.engines.sampling_bounds import check_request
from forebay.engines.step_measuring import by_token, measure

_WAIT_S: Final = 0.005
"""How long a step waits for something new: messages to the worker wait meanwhile."""
_SETTLE_S: Final = 0.0005
"""How long it waits for the rest of a batch, whose tokens are told thread by thread."""

_MEASURED_SEQUENCES: Final = 16
"""As many are measured together: each is a thread of Python's."""

_BAD_GRAMMAR: Final = "The engine could not compile the grammar."
_SUPPORTS: Final = EVERY_ENGINE - {Feature.LOGPROBS, Feature.PRESENCE_PENALTY}


class LlamaCppStepEngine:
    """A `StepEngine` over llama.cpp's server."""

    # All mutable state: sequences by id, those of them that wait in order, those of them that a
    # call goes on with, the KV tokens that each call may use, aborted calls, the token counter.

    def __init__(self, config: LlamaCppConfig, folder: Path) -> None:
        """Load a prepared model; raise ArtefactError or TooLittleMemory with the fix."""
        manifest = load_verified(folder)
        check_model(manifest, folder)
        machine = read_machine()
        plan = size_kv(config, manifest, folder, free_bytes=machine.memory_bytes)
        self._config = config
        self._kv_tokens = plan.tokens // KV_STEP_TOKENS * KV_STEP_TOKENS
        self._tokenizer = ModelTokenizer.load(folder)
        sizes = Sizes(
            sequences=config.sequences_running_max,
            kv_tokens=self._kv_tokens,
            batched_tokens=config.batched_tokens_max,
            threads=config.threads or machine.processors,
            cache_ram_bytes=config.cache_ram_bytes,
        )
        server = open_server(folder / MODEL, sizes)
        self._calls = Calls(server, calls_max=config.sequences_running_max)
        ends = frozenset(manifest.eos_token_ids)
        self._marks = Marks(
            ends=ends,
            silent=ends | frozenset(manifest.special_tokens.values()),
            characters=SplitCharacters(self._tokenizer.token_bytes, manifest.vocabulary_size),
        )
        self._sequences: dict[SequenceId, Generation] = {}
        self._waiting: deque[Generation] = deque()
        self._running: dict[Call, Generation] = {}
        self._reserved: dict[Call, int] = {}
        self._aborted: set[Call] = set()
        self._tokens_made = 0
        supports = _SUPPORTS | self._tokenizer.features
        self._info = EngineInfo(
            name="llamacpp",
            context_tokens_max=context_tokens(config, manifest, self._kv_tokens),
            running_max=config.sequences_running_max,
            supports=supports,
            deterministic=False,
            # A grammar's state cannot be handed in.
            resumable=supports - {Feature.JSON_OBJECT, Feature.JSON_SCHEMA},
            step_s_max=config.step_s_max,
            kv_bytes=plan.bytes,
            kv_tokens_max=self._kv_tokens,
            vocabulary_size=manifest.vocabulary_size,
            detail=f"weights {manifest.precision}; computing on {sizes.threads} threads; "
            f"KV cache {plan.bytes / 1e6:.0f} MB for {self._kv_tokens} tokens",
        )
        half = self._info.context_tokens_max // 2
        costs = measure(
            self, tokens_max=half, sequences_max=_MEASURED_SEQUENCES, timing=by_token
        ).costs
        self._info = dataclasses.replace(self._info, costs=costs)
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
        """Queue a sequence, or raise Refused."""
        assert id not in self._sequences, "the worker numbers its sequences"
        check_request([*prompt_token_ids, *made], sampling, self._info)
        assert sampling.tokens_max is not None, "set by the worker"
        sequence = Generation(
            id=id,
            prompt=prompt_token_ids,
            sampling=sampling,
            schema=spaced_schema_of(sampling.grammar),
            made=list(made),
            tokens_max=len(made) + sampling.tokens_max,
            tokens_min=len(made) + sampling.tokens_min,
        )
        self._sequences[id] = sequence
        self._waiting.append(sequence)

    def abort(self, id: SequenceId) -> None:
        """Forget a sequence; the next `step` gives its place back."""
        sequence = self._sequences.pop(id, None)
        if sequence is None:
            return
        if sequence.call is None:
            self._waiting.remove(sequence)
        else:
            self._aborted.add(self._drop(sequence.call))

    def step(self) -> Sequence[StepOutput]:
        """Take what the library has made; wait a little for it, and for what was aborted to end."""
        self._admit()
        outputs: list[StepOutput] = []
        deadline = time.monotonic() + self._config.step_s_max / 2
        while self._calls.under_way:
            for call, line in self._calls.take(_WAIT_S, _SETTLE_S):
                output = self._end(call) if line is None else self._hear(call, line)
                if output is not None:
                    outputs.append(output)
            if not self._aborted or time.monotonic() >= deadline:
                break
        self._admit()
        return outputs

    def stats(self) -> StepStats:
        """Return the gauges."""
        running = self._running.values()
        used = sum(len(sequence.prompt) + len(sequence.made) for sequence in running)
        return StepStats(
            running=len(running),
            waiting=len(self._waiting),
            blocks_used_ratio=min(1.0, used / self._kv_tokens),
            tokens_made=self._tokens_made,
        )

    def close(self) -> None:
        """Give the memory back."""
        for id_ in list(self._sequences):
            self.abort(id_)
        self._calls.close()

    def _admit(self) -> None:
        """Ask the library to go on with those who wait, in order, while there is room."""
        while self._waiting and self._calls.under_way < self._config.sequences_running_max:
            sequence = self._waiting[0]
            needed = sequence.tokens_reserved
            if sum(self._reserved.values()) + needed > self._kv_tokens:
                return
            self._waiting.popleft()
            cache, ends = self._config.prefix_cache, self._marks.ends
            body = wish(sequence.go_on(), sequence.sampling, ends=ends, prefix_cache=cache)
            call = sequence.call = self._calls.start(body)
            self._running[call] = sequence
            self._reserved[call] = needed

    def _drop(self, call: Call) -> Call:
        """Want no more of a call; its memory is held until it has ended."""
        call.dropped = True
        del self._running[call]
        return call

    def _end(self, call: Call) -> StepOutput | None:
        """Take a call's place back; return a failure if it had not told how it ended."""
        del self._reserved[call]
        self._aborted.discard(call)
        sequence = self._running.get(call)
        return None if sequence is None else self._fail(sequence, "it said no more")

    def _fail(self, sequence: Generation, why: str) -> StepOutput:
        assert sequence.call is not None, "only what runs can fail"
        sys.stderr.write(f"llama.cpp could not go on with a sequence: {why}\n")
        del self._sequences[sequence.id]
        self._drop(sequence.call)
        unmade = sequence.schema is not None and not sequence.told
        failure = _BAD_GRAMMAR if unmade else "The engine could not go on with the answer."
        return StepOutput(sequence.id, (), failure=failure)

    def _hear(self, call: Call, line: bytes) -> StepOutput | None:
        """Return what a line tells of a sequence; None if nothing."""
        sequence = self._running.get(call)
        if sequence is None:
            return None
        told = read_line(line)
        if told.failure is not None:
            return self._fail(sequence, told.failure)
        output = sequence.hear(told, self._marks)
        if output is None:
            return None
        self._tokens_made += len(output.token_ids) + output.tokens_hidden
        if output.finish_reason is not None:
            del self._sequences[sequence.id]
            self._drop(call)
        elif sequence.may_end_now:
            sequence.call = None
            self._drop(call)
            self._waiting.appendleft(sequence)
        return output


def _make(config: LlamaCppConfig, folder: Path | None) -> LlamaCppStepEngine:
    assert folder is not None, "its form says so"
    return LlamaCppStepEngine(config, folder)


KIND: Final = EngineKind(
    name="llamacpp", config=LlamaCppConfig, form=Form.GGUF, needs=("xllamacpp",), make=_make
)
