"""What an upstream answers, read as far as needed: events of a stream, or one whole body.

Whatever is not an answer to what was asked is a Fault, and nothing of it is passed on.  Tokens:
a stream does not say how many each piece has, only how many there were in all; a piece counts
as one (as many as it has odds for, where it has odds), and the last one makes up the difference.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from forebay.core.request import Delta, FinishReason, Request, TokenLogprob, Usage
from forebay.engines.upstream_fault import Fault, Reason

_TOKENS_MAX: Final = 1_000_000_000
_DONE: Final = b"[DONE]"
_DATA: Final = b"data:"
_NULL: Final = Raw(b"null")
_UNKNOWN: Final = -9_999.0
"""What OpenAI says where a token's odds are not told; 0 would say that it was certain."""

_REASONS: Final = {
    "stop": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
}
"""Finish reasons as servers spell them."""


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Odds(Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _ChatOdds(Struct):
    content: list[_Odds] | None = None


class _TextOdds(Struct):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    content: list[_Odds] | None = None
    """llama-server has the chat's shape on both routes."""


def _told(content: Sequence[_Odds]) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(odds.token, _utf8(odds), odds.logprob) for odds in content)


class _Said(Struct):
    content: str | None = None


class _ChatChoice(Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    logprobs: _ChatOdds | None = None

    @property
    def said(self) -> str:
        """The text of it."""
        said = self.delta or self.message
        return "" if said is None else said.content or ""

    @property
    def odds(self) -> tuple[TokenLogprob, ...]:
        """The odds of its tokens."""
        return () if self.logprobs is None else _told(self.logprobs.content or ())


class _TextChoice(Struct):
    index: int = 0
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _TextOdds | None = None

    @property
    def said(self) -> str:
        """The text of it."""
        return self.text or ""

    @property
    def odds(self) -> tuple[TokenLogprob, ...]:
        """The odds of its tokens; of the very first some servers know none."""
        if self.logprobs is None:
            return ()
        if self.logprobs.content is not None:
            return _told(self.logprobs.content)
        pairs = zip(self.logprobs.tokens, self.logprobs.token_logprobs, strict=False)
        return tuple(
            TokenLogprob(token, token.encode(), _UNKNOWN if odds is None else odds)
            for token, odds in pairs
        )


class _ChatBody(Struct):
    choices: list[_ChatChoice] | None = None
    usage: _Usage | None = None
    error: Raw | UnsetType = UNSET


class _TextBody(Struct):
    choices: list[_TextChoice] | None = None
    usage: _Usage | None = None
    error: Raw | UnsetType = UNSET


_Body = _ChatBody | _TextBody
_CHAT: Final = msgspec.json.Decoder(_ChatBody)
_TEXT: Final = msgspec.json.Decoder(_TextBody)


def _utf8(odds: _Odds) -> bytes:
    found = odds.bytes
    if found is None or not all(0 <= byte <= 255 for byte in found):  # noqa: PLR2004 - a byte
        return odds.token.encode("utf-8", "replace")
    return bytes(found)


class Reader:
    """One answer.  Mutable state: what is known of its choices, its tokens, and its last delta."""

    def __init__(self, request: Request, *, chat: bool, line_bytes_max: int) -> None:
        """Read the answer to a request."""
        self._decode = (_CHAT if chat else _TEXT).decode
        self._line_bytes_max = line_bytes_max
        self._open = set(range(request.sampling.choices))
        """Choices that have not ended."""
        self._choices = request.sampling.choices
        self._odds = request.sampling.logprobs
        self._odds_owed = False
        """Odds were asked for, text has come, and none of them."""
        self._odds_came = False
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._usage: Usage | None = None
        self._held: Delta | None = None
        """The last delta of the last choice: it waits for the usage."""
        self.counted = 0
        """Tokens of what was passed on."""
        self.done = False
        """`[DONE]` was said; nothing may follow."""
        self.lines = 0
        """Lines read: a server that drips bytes and ends no line says nothing."""

    def feed(self, data: bytes) -> list[Delta]:
        """Take a piece of a stream; raises Fault."""
        deltas: list[Delta] = []
        tail = self._tail
        if b"\n" not in data:
            tail += data
        else:
            if tail:
                data = bytes(tail) + data
            *lines, rest = data.split(b"\n")
            self._tail = tail = bytearray(rest)
            for line in lines:
                self._take_line(line, deltas)
        if len(tail) > self._line_bytes_max:
            raise Fault(Reason.TOO_LONG, f"a line of over {self._line_bytes_max} bytes")
        return deltas

    def _take_line(self, line: bytes, deltas: list[Delta]) -> None:
        self.lines += 1
        if line.endswith(b"\r"):
            line = line[:-1]
        if line.startswith(_DATA):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line and self._data:
            event = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data.clear()
            self._take_event(event, deltas)
        if self._data and sum(map(len, self._data)) > self._line_bytes_max:
            raise Fault(Reason.TOO_LONG, f"an event of over {self._line_bytes_max} bytes")

    def _take_event(self, event: bytes, deltas: list[Delta]) -> None:
        if self.done:
            raise Fault(Reason.UNASKED, "an event after [DONE]")
        if event == _DONE:
            self.done = True
            return
        body = self._decoded(event)
        if body.usage is not None:
            self._usage = _checked(body.usage)
        for choice in body.choices or ():
            self._take_choice(choice, deltas)

    def _take_choice(self, choice: _ChatChoice | _TextChoice, deltas: list[Delta]) -> None:
        said, index = choice.said, choice.index
        if index not in self._open:
            if 0 <= index < self._choices and not said:
                return  # some say that a choice has ended in an event of its own, and once more
            raise Fault(Reason.NONSENSE, f"choice {index} has no place here, or had ended")
        odds = self._odds_of(choice)
        reason = None if choice.finish_reason is None else _reason(choice.finish_reason)
        if not said and not odds and reason is None:
            return  # it names the role
        tokens = len(odds) or (1 if said else 0)
        delta = Delta(said, tokens, index, reason, odds)
        if reason is not None:
            self._open.discard(index)
            if not self._open:
                self._held = delta
                return
        self.counted += tokens
        deltas.append(delta)

    def _odds_of(self, choice: _ChatChoice | _TextChoice) -> tuple[TokenLogprob, ...]:
        if not self._odds:
            return ()
        odds = choice.odds
        self._odds_came |= bool(odds)
        self._odds_owed |= bool(choice.said)
        return odds

    def _check_odds(self) -> None:
        """Raise Fault where odds were asked for, and left out in silence."""
        if self._odds_owed and not self._odds_came:
            raise Fault(Reason.NONSENSE, "the odds that were asked for are missing")

    def end(self) -> tuple[list[Delta], Usage | None]:
        """Return what was held back, and the usage if it was told; raises Fault."""
        if self._open or self._held is None:
            raise Fault(Reason.CUT, f"{len(self._open)} choices had not ended")
        if self._tail.strip() or self._data:
            raise Fault(Reason.CUT, "the stream ends inside an event")
        self._check_odds()
        held, usage = self._held, self._usage
        if usage is not None:
            held.tokens = max(0, usage.completion_tokens - self.counted)
        self.counted += held.tokens
        return [held], usage

    def whole(self, body: bytes) -> tuple[list[Delta], Usage | None]:
        """Read an answer that came whole; raises Fault."""
        found = self._decoded(body)
        choices: Sequence[_ChatChoice | _TextChoice] = found.choices or ()
        usage = None if found.usage is None else _checked(found.usage)
        deltas = []
        share = 0 if usage is None else usage.completion_tokens // self._choices
        for choice in choices:
            if choice.index not in self._open or choice.finish_reason is None:
                raise Fault(Reason.NONSENSE, f"choice {choice.index} has no place or no end")
            self._open.discard(choice.index)
            odds = self._odds_of(choice)
            reason = _reason(choice.finish_reason)
            tokens = share if usage is not None else len(odds) or (1 if choice.said else 0)
            deltas.append(Delta(choice.said, tokens, choice.index, reason, odds))
        if self._open:
            raise Fault(Reason.CUT, f"{len(self._open)} choices are missing")
        self._check_odds()
        self.counted = sum(delta.tokens for delta in deltas)
        if usage is not None:
            deltas[-1].tokens += usage.completion_tokens - self.counted
            self.counted = usage.completion_tokens
        return deltas, usage

    def _decoded(self, data: bytes) -> _Body:
        try:
            body: _Body = self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Fault(Reason.NOT_JSON, str(error)[:200]) from None
        if body.error is not UNSET and body.error != _NULL:
            raise Fault(Reason.FAILED, "an error where an answer was due")
        return body


def _checked(usage: _Usage) -> Usage:
    for count in (usage.prompt_tokens, usage.completion_tokens):
        if not 0 <= count <= _TOKENS_MAX:
            raise Fault(Reason.NONSENSE, f"a usage of {str(count)[:20]} tokens")
    return Usage(usage.prompt_tokens, usage.completion_tokens)


def _reason(text: str) -> FinishReason:
    found = _REASONS.get(text)
    if found is None:
        raise Fault(Reason.NONSENSE, "it stopped for a reason that nobody knows")
    return found
