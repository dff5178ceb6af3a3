"""A step engine that lives in the test: it says what it is told to, and counts what it holds."""

from collections.abc import Sequence

from forebay.core.request import FinishReason, Message, Sampling, TokenId
from forebay.core.tooling import Tooling
from forebay.engine.protocol import (
    EngineInfo,
    Feature,
    Refused,
    SequenceId,
    StepOutput,
    StepStats,
)


class ByteDetokenizer:
    """One token is one byte."""

    def __init__(self) -> None:
        self._held = b""

    def push(self, token_ids: Sequence[TokenId]) -> str:
        data = self._held + bytes(token_ids)
        for cut in range(len(data), max(-1, len(data) - 4), -1):
            try:
                text = data[:cut].decode()
            except UnicodeDecodeError:
                continue
            self._held = data[cut:]
            return text
        self._held = b""
        return data.decode("utf-8", "replace")

    def flush(self) -> str:
        held, self._held = self._held, b""
        return held.decode("utf-8", "replace")


class ByteTokenizer:
    """One byte is one token; `BAD` is what a template refuses, `BUG` what breaks it."""

    def chat(self, messages: Sequence[Message], _tooling: Tooling | None = None) -> list[TokenId]:
        text = "".join(message.content for message in messages)
        if text == "BAD":
            raise Refused("messages: the template refuses this.", param="messages")
        if text == "BUG":
            raise ZeroDivisionError
        return self.encode(text)

    def encode(self, text: str) -> list[TokenId]:
        return list(text.encode())

    def detokenizer(self) -> ByteDetokenizer:
        return ByteDetokenizer()

    def token_bytes(self, token_id: TokenId) -> bytes:
        return bytes([token_id])


class PuppetStepEngine:
    """Holds sequences; each step gives what `say` has laid ready.  Memory is freed by a step."""

    def __init__(self, *, context_tokens_max: int = 100, kv_tokens_max: int = 0) -> None:
        self.info = EngineInfo(
            name="puppet",
            context_tokens_max=context_tokens_max,
            kv_tokens_max=kv_tokens_max,
            running_max=8,
            vocabulary_size=256,
            supports=frozenset(Feature),
        )
        self.tokenizer = ByteTokenizer()
        self.submitted: dict[SequenceId, tuple[list[TokenId], Sampling]] = {}
        self.held: set[SequenceId] = set()
        self.aborted: list[SequenceId] = []
        self.refuse_after: int | None = None
        self.steps = 0
        self._ready: list[StepOutput] = []

    def submit(
        self,
        id: SequenceId,
        prompt_token_ids: Sequence[TokenId],
        sampling: Sampling,
        *,
        made: Sequence[TokenId] = (),
    ) -> None:
        if self.refuse_after is not None and len(self.submitted) >= self.refuse_after:
            raise Refused("n: too many.", param="n")
        self.submitted[id] = ([*prompt_token_ids, *made], sampling)
        self.held.add(id)

    def say(
        self, id: int, text: bytes, reason: FinishReason | None = None, *, hidden: int = 0
    ) -> None:
        """Let the next step bring these tokens of this sequence."""
        odds = [-0.5] * len(text)
        self._ready.append(StepOutput(SequenceId(id), list(text), reason, odds, hidden))

    def fail(self, id: int, message: str) -> None:
        """Let this sequence fail in the next step."""
        self._ready.append(StepOutput(SequenceId(id), (), failure=message))

    def abort(self, id: SequenceId) -> None:
        self.aborted.append(id)

    def step(self) -> Sequence[StepOutput]:
        self.steps += 1
        self.held -= set(self.aborted)
        outputs, self._ready = self._ready, []
        ended = {each.id for each in outputs if each.finish_reason or each.failure}
        self.held -= ended
        return [each for each in outputs if each.id not in self.aborted]

    def stats(self) -> StepStats:
        return StepStats(len(self.held), 0, 0.0, 0)

    def close(self) -> None:
        self.held.clear()
