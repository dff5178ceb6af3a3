"""An engine without a model: it says the prompt's words again, at a set pace.

For tests, demonstrations, overhead measurements and failure drills.  It is a language model
whose distribution has all its mass on one token: the next word of the script.  Sampling by
temperature, top_p, top_k, min_p, penalties or seed cannot change such a distribution, so all
of them are honoured exactly, and each token's log-probability is 0.  A grammar would need
other words, so grammars are refused.

A token is up to 7 bytes of UTF-8, packed into its id: a word with the space after it, or a
piece of a long word.  So the tokenizer has no state and no table, any text comes back exactly,
and a character of several bytes may lie in two tokens, as with real vocabularies.

A text's vector is made of its words by chance (`scripted_embedding.py`); directions hold there too.

The script is the last user's turn, or the whole plain prompt.  It is said once, and the
sequence stops; with `ignore_eos` its words go round until `tokens_max`.  A word that begins
with `!` is a stage direction, obeyed where it stands, once a sequence:

    !fail     the sequence fails, alone          !hang     the sequence makes no more tokens
    !slow     a step takes long                  !stall    the step never returns
    !die      the worker exits                   !garbage  the worker sends nonsense
"""

import codecs
import enum
import functools
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never, cast

from forebay.core.clock import MONOTONIC, Clock
from forebay.core.knob import knob
from forebay.core.request import FinishReason, Message, Role, Sampling, TokenId
from forebay.core.tooling import Tooling
from forebay.engine.protocol import (
    EVERY_ENGINE,
    EngineInfo,
    Feature,
    Refused,
    SequenceId,
    StepOutput,
    StepStats,
)
from forebay.engine.registry import EngineKind
from forebay.engines import scripted_embedding

_PIECE: Final = re.compile(rb"[^ ]{0,6} |[^ ]{1,7}")
_PIECE_BYTES: Final = 7
_REMEMBERED_MAX: Final = 4_096
_WORD: Final = re.compile(rb"\S*\s+")
_USERS_TURN: Final = 2
_OTHER_TURN: Final = 3
"""Ids below 256 stand for no bytes, so no text can write them."""

_NAP_S_MAX: Final = 0.002
"""Longest sleep within a step, so that what arrives meanwhile is soon seen."""

_SLOW_S: Final = 0.4
_STEP_S_MAX: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedConfig:
    """The pace of the speech, and what it obeys."""

    prefill_s: float = knob(
        0.0, "Time from taking a sequence in to its first token.", minimum=0.0, maximum=3_600.0
    )
    prefill_s_per_token: float = knob(
        0.0, "The same, for each token of the prompt.", minimum=0.0, maximum=10.0
    )
    decode_s: float = knob(
        0.0, "Time of a step, which makes one token of each sequence.", minimum=0.0, maximum=60.0
    )
    running_max: int = knob(256, "Sequences in one batch; more wait.", minimum=1, maximum=100_000)
    context_tokens_max: int = knob(
        32_768, "Prompt and completion together.", minimum=16, maximum=10_000_000
    )
    directions: bool = knob(
        default=True,
        help="Obey stage directions in prompts (!die kills the worker): for tests and drills.",
    )


class Direction(enum.StrEnum):
    """What a script may order beside words."""

    FAIL = "!fail"
    HANG = "!hang"
    SLOW = "!slow"
    STALL = "!stall"
    DIE = "!die"
    GARBAGE = "!garbage"


_DIRECTIONS: Final = {direction.encode(): direction for direction in Direction}


class ScriptedTokenizer:
    """Words to ids and back, by arithmetic."""

    def __init__(self) -> None:
        """Remember the bytes of some ids."""
        self.token_bytes = functools.lru_cache(_REMEMBERED_MAX)(_bytes_of)

    def chat(self, messages: Sequence[Message], _tooling: Tooling | None = None) -> list[TokenId]:
        """Mark each turn by who speaks."""
        token_ids = []
        for message in messages:
            token_ids.append(_USERS_TURN if message.role is Role.USER else _OTHER_TURN)
            token_ids += self.encode(message.content)
        return token_ids

    def encode(self, text: str) -> list[TokenId]:
        """Cut text after each space, and every 7 bytes."""
        return _encode(text.encode("utf-8", "replace"))

    def detokenizer(self) -> "ScriptedDetokenizer":
        """Return a fresh detokenizer."""
        return ScriptedDetokenizer(self.token_bytes)


class ScriptedDetokenizer:
    """Bytes to whole characters.  Mutable state: the decoder's unfinished character."""

    __slots__ = ("_bytes_of", "_decode")

    def __init__(self, bytes_of: Callable[[TokenId], bytes]) -> None:
        """Start with no bytes held."""
        self._bytes_of = bytes_of
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def push(self, token_ids: Sequence[TokenId]) -> str:
        """Return the characters that are complete."""
        return self._decode(b"".join(map(self._bytes_of, token_ids)))

    def flush(self) -> str:
        """Return what is left."""
        return self._decode(b"", True)  # noqa: FBT003 - the library's own signature


@dataclass(slots=True, eq=False)
class _Actor:
    """One sequence.  Mutable state: where it is in its script."""

    id: SequenceId
    lines: Iterator[TokenId | Direction]
    tokens_left: int
    logprobs: tuple[float, ...]
    """What is reported with each token: a zero, or nothing."""
    prefill_s: float
    ready: float = 0.0
    """When its prefill is over."""
    embedding: bytes = b""
    """What it ends with, if it makes no tokens."""
    hanging: bool = False


class ScriptedEngine:
    """A StepEngine that reads aloud."""

    def __init__(
        self,
        config: ScriptedConfig,
        now: Clock = MONOTONIC,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Speak at the configured pace."""
        # A script may hold a tool call.
        spoken = {Feature.CHAT, Feature.TOOLS, Feature.EMBEDDINGS}
        supports = (EVERY_ENGINE | spoken) - {Feature.JSON_OBJECT, Feature.JSON_SCHEMA}
        self.info = EngineInfo(
            name="scripted",
            context_tokens_max=config.context_tokens_max,
            running_max=config.running_max,
            supports=supports,
            deterministic=True,
            resumable=supports,
            step_s_max=_STEP_S_MAX,
            step_s_short=_STEP_S_MAX,
            vocabulary_size=1 << (8 * _PIECE_BYTES + 1),
            embedding_size=scripted_embedding.SIZE,
            detail=f"no model, {config.decode_s * 1000:g} ms a token",
        )
        self.tokenizer = ScriptedTokenizer()
        self._config = config
        self._now = now
        self._sleep = sleep
        self._paced = bool(config.decode_s or config.prefill_s or config.prefill_s_per_token)
        # The whole mutable state.
        self._running: dict[SequenceId, _Actor] = {}
        self._waiting: dict[SequenceId, _Actor] = {}
        self._tokens_made = 0
        self._due = 0.0
        """When the next step may be made."""

    def submit(
        self,
        id: SequenceId,
        prompt_token_ids: Sequence[TokenId],
        sampling: Sampling,
        *,
        made: Sequence[TokenId] = (),
    ) -> None:
        """Queue a sequence; the script is taken up after what is made."""
        if sampling.grammar is not None:
            message = "response_format: this engine has no grammars; ask for text."
            raise Refused(message, param="response_format")
        assert sampling.tokens_max is not None, "set by the worker"
        script = script_of(prompt_token_ids, directions=self._config.directions)
        per_token_s, embedding = self._config.prefill_s_per_token, b""
        if sampling.embed:
            embedding = scripted_embedding.embedding_of(map(_bytes_of, prompt_token_ids))
            script = [line for line in script if isinstance(line, Direction)]
        lines = _lines(script, sampling, tokens_made=len(made))
        self._waiting[id] = _Actor(
            id=id,
            lines=_after(lines, len(made)),
            tokens_left=sampling.tokens_max,
            logprobs=(0.0,) if sampling.logprobs else (),
            prefill_s=self._config.prefill_s + per_token_s * (len(prompt_token_ids) + len(made)),
            embedding=embedding,
        )

    def abort(self, id: SequenceId) -> None:
        """Forget a sequence."""
        self._running.pop(id, None)
        self._waiting.pop(id, None)

    def step(self) -> Sequence[StepOutput]:
        """Make one token of each sequence, if it is time; sleep a little if it is not."""
        self._admit()
        if not self._running or not self._is_time():
            return []
        outputs = []
        now = self._now() if self._paced else 0.0
        for actor in tuple(self._running.values()):
            if not actor.hanging and actor.ready <= now:
                output = self._play(actor)
                if output is not None:
                    outputs.append(output)
        return outputs

    def stats(self) -> StepStats:
        """Return the gauges."""
        return StepStats(
            running=len(self._running),
            waiting=len(self._waiting),
            blocks_used_ratio=0.0,
            tokens_made=self._tokens_made,
        )

    def close(self) -> None:
        """Forget everything."""
        self._running.clear()
        self._waiting.clear()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._config.running_max:
            actor = self._waiting.pop(next(iter(self._waiting)))
            actor.ready = self._now() + actor.prefill_s if self._paced else 0.0
            self._running[actor.id] = actor

    def _is_time(self) -> bool:
        """Return whether the batch may step; sleep at most `_NAP_S_MAX` to find out."""
        moving = [actor.ready for actor in self._running.values() if not actor.hanging]
        if moving and not self._paced:
            return True
        now = self._now()
        due = max(self._due, min(moving)) if moving else now + _NAP_S_MAX
        if due > now:
            self._sleep(min(due - now, _NAP_S_MAX))
            now = self._now()
        if due > now or not moving:
            return False
        # Counted from when it was due: a late step does not delay those after it.
        self._due = max(due, now - self._config.decode_s) + self._config.decode_s
        return True

    def _play(self, actor: _Actor) -> StepOutput | None:
        """Say the sequence's next word, after the directions that stand before it."""
        for line in actor.lines:
            if isinstance(line, int):
                self._tokens_made += 1
                actor.tokens_left -= 1
                if actor.tokens_left:
                    return StepOutput(actor.id, (line,), None, actor.logprobs)
                del self._running[actor.id]
                return StepOutput(actor.id, (line,), FinishReason.LENGTH, actor.logprobs)
            match line:
                case Direction.HANG:
                    actor.hanging = True
                    return None
                case Direction.FAIL:
                    del self._running[actor.id]
                    return StepOutput(actor.id, (), failure="The script told it to fail.")
                case Direction.GARBAGE:
                    return StepOutput(actor.id, (), cast("FinishReason", "garbage"))
                case Direction.SLOW:
                    self._sleep(_SLOW_S)
                case Direction.DIE | Direction.STALL:
                    _be_lost(line)
                case _:
                    assert_never(line)
        del self._running[actor.id]
        return StepOutput(actor.id, (), FinishReason.STOP, embedding=actor.embedding)


def script_of(
    prompt_token_ids: Sequence[TokenId], *, directions: bool
) -> list[TokenId | Direction]:
    """Return what is to be said: the last user's turn, or all of a plain prompt."""
    turn = list(prompt_token_ids)
    for place in range(len(turn) - 1, -1, -1):
        if turn[place] == _USERS_TURN:
            turn = turn[place + 1 :]
            break
    turn = list(itertools.takewhile(_OTHER_TURN.__ne__, turn))
    said = b"".join([_bytes_of(token_id) for token_id in turn])
    if said and not said.endswith(b" "):
        turn[-1:] = _encode(_bytes_of(turn[-1]) + b" ")
    if not directions or b"!" not in said:
        return list(turn)
    script: list[TokenId | Direction] = []
    for word in _WORD.findall(said + b" "):
        direction = _DIRECTIONS.get(word.strip())
        if direction is not None:
            script.append(direction)
        else:
            script += _encode(word)
    return script


def _lines(
    script: list[TokenId | Direction], sampling: Sampling, *, tokens_made: int
) -> Iterator[TokenId | Direction]:
    """Return the script once; then its words round and round, where that is asked for."""
    words = [line for line in script if isinstance(line, int)]
    if sampling.ignore_eos:
        return itertools.chain(script, itertools.cycle(words))
    missing = max(0, tokens_made + sampling.tokens_min - len(words))
    return itertools.chain(script, itertools.islice(itertools.cycle(words), missing))


def _after(lines: Iterator[TokenId | Direction], tokens: int) -> Iterator[TokenId | Direction]:
    """Return what follows so many tokens; the directions before them were obeyed."""
    while tokens and (line := next(lines, None)) is not None:
        tokens -= isinstance(line, int)
    return lines


def _be_lost(direction: Direction) -> None:
    if direction is Direction.DIE:
        os._exit(1)
    while True:  # not even a sleep: the worst that a library can do
        pass


def _encode(utf8: bytes) -> list[TokenId]:
    return [int.from_bytes(b"\1" + piece, "big") for piece in _PIECE.findall(utf8)]


def _bytes_of(token_id: TokenId) -> bytes:
    """Return what follows the leading 1; ids of one byte stand for nothing."""
    return token_id.to_bytes(_PIECE_BYTES + 1, "big").lstrip(b"\0")[1:]


def _make(config: ScriptedConfig, _folder: Path | None) -> ScriptedEngine:
    return ScriptedEngine(config)


KIND: Final = EngineKind(name="scripted", config=ScriptedConfig, form=None, make=_make)
