"""One choice of a request: its tokens in, pieces of text out.

`PlainChoice` is the usual case and cheap.  `CarefulChoice` looks at each token: for stop texts
and log-probabilities.  Of a request that is answered whole nothing is said before the choice
has ended: `WholePlainChoice` keeps its tokens, `WholeCarefulChoice` its pieces.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.core.request import FinishReason, Made, Sampling, TokenId, TokenLogprob
from forebay.engine.protocol import StepOutput, Tokenizer
from forebay.engine.stop_strings import StopFilter, StopTable
from forebay.engine.wire import Kept, Piece


class Choice(Protocol):
    """Turns what an engine makes of one sequence into pieces."""

    @property
    def stopped(self) -> bool:
        """Whether a stop text has ended it, so that the engine need not go on."""

    def take(self, output: StepOutput) -> Piece | None:
        """Return the text that has become certain, if any; the last piece says why it ended."""

    def kept(self) -> Kept | None:
        """Return the tokens since the last call of which nothing is handed out before the end."""


class CannotResume(Exception):
    """What was made elsewhere does not fit what was handed out of it."""


@dataclass(frozen=True, slots=True)
class ChoiceId:
    """Which choice of which request."""

    request: int
    index: int


def open_choice(
    id: ChoiceId, tokenizer: Tokenizer, sampling: Sampling, *, stops: StopTable | None, stream: bool
) -> Choice:
    """Return what the request needs, and no more."""
    if stops is None and not sampling.logprobs:
        return PlainChoice(id, tokenizer) if stream else WholePlainChoice(id, tokenizer)
    choice = CarefulChoice(id, tokenizer, sampling, stops=stops)
    return choice if stream else WholeCarefulChoice(id, choice)


class PlainChoice:
    """Text as it comes.  Mutable state: tokens whose text is not yet a whole character."""

    __slots__ = ("_flush", "_held", "_id", "_index", "_push", "stopped")

    def __init__(self, id: ChoiceId, tokenizer: Tokenizer) -> None:
        """Start with nothing made."""
        detokenizer = tokenizer.detokenizer()
        self._push, self._flush = detokenizer.push, detokenizer.flush
        self._id, self._index = id.request, id.index
        self._held: tuple[TokenId, ...] = ()
        self.stopped = False

    def take(self, output: StepOutput) -> Piece | None:
        """Return the text that has become certain, if any."""
        token_ids, reason = (*self._held, *output.token_ids), output.finish_reason
        text = self._push(output.token_ids)
        if reason is not None:
            text += self._flush()
        elif not text:
            self._held = token_ids
            return None
        self._held = ()
        tokens = len(token_ids) + output.tokens_hidden
        return Piece(self._id, text, tokens, self._index, reason, (), token_ids)

    def kept(self) -> Kept | None:
        """Return nothing: pieces carry the tokens."""
        return None


class WholePlainChoice:
    """Tokens, made text once.

    Mutable state: the tokens so far, how many of them were told, and how many were hidden.
    """

    __slots__ = ("_detokenizer", "_hidden", "_id", "_index", "_token_ids", "_told", "stopped")

    def __init__(self, id: ChoiceId, tokenizer: Tokenizer) -> None:
        """Start with nothing made."""
        self._detokenizer = tokenizer.detokenizer()
        self._id, self._index = id.request, id.index
        self._token_ids: list[TokenId] = []
        self._told = 0
        self._hidden = 0
        self.stopped = False

    def take(self, output: StepOutput) -> Piece | None:
        """Return the whole choice as one piece, once it has ended."""
        token_ids = self._token_ids
        token_ids += output.token_ids
        self._hidden += output.tokens_hidden
        if output.finish_reason is None:
            return None
        text = self._detokenizer.push(token_ids) + self._detokenizer.flush()
        tokens = len(token_ids) + self._hidden
        return Piece(self._id, text, tokens, self._index, output.finish_reason)

    def kept(self) -> Kept | None:
        """Return the tokens since the last call."""
        new = tuple(self._token_ids[self._told :])
        self._told = len(self._token_ids)
        return Kept(self._id, self._index, new) if new else None


class CarefulChoice:
    """Text with stop texts cut off, and the log-probability of each token beside its text.

    A token is reported with the piece in which its text begins.  Tokens that made a stop text
    are counted, but their log-probabilities are not reported, as their text is not.  Until
    `tokens_min` tokens are made, no stop text is looked for.
    """

    # The whole mutable state: characters made and emitted, tokens made, the tokens not yet
    # reported, each with the character at which its text begins; and what another worker made
    # but did not hand out (`owed`) or handed out though we have not made it yet (`ahead`).
    __slots__ = (
        "_ahead",
        *("_detokenizer", "_filter", "_id", "_index", "_logprobs", "_token_bytes", "_tokens_min"),
        *("_chars", "_emitted", "_made", "_new", "_owed", "_waiting", "stopped"),
    )

    def __init__(
        self, id: ChoiceId, tokenizer: Tokenizer, sampling: Sampling, *, stops: StopTable | None
    ) -> None:
        """Start with nothing made."""
        self._id, self._index = id.request, id.index
        self._detokenizer = tokenizer.detokenizer()
        self._token_bytes = tokenizer.token_bytes
        self._filter = StopFilter(stops) if stops else None
        self._logprobs = sampling.logprobs
        self._tokens_min = sampling.tokens_min
        self._waiting: deque[tuple[int, TokenLogprob | None]] = deque()
        self._chars = self._emitted = self._made = 0
        self._new: list[TokenId] = []
        self._owed = ""
        self._ahead = 0
        self.stopped = False

    def resume(self, made: Made) -> None:
        """Be as the worker was that made this; raises CannotResume."""
        text = self._say(made.token_ids, ())
        if self.stopped or made.characters > self._chars or made.tokens > len(self._waiting):
            raise CannotResume
        for _ in range(made.tokens):
            self._waiting.popleft()
        self._emitted = made.characters
        self._owed = text[made.characters :]
        # Text that was certain to the other is not yet to us, if it had seen more tokens.
        self._ahead = max(0, made.characters - len(text))
        self._new.clear()

    def take(self, output: StepOutput) -> Piece | None:
        """Return the text that has become certain, if any."""
        reason = output.finish_reason
        logprobs = output.logprobs if self._logprobs else ()
        text = self._owed + self._say(output.token_ids, logprobs)
        if reason is not None and not self.stopped:
            text += self._last_words()
        if self._ahead:
            known, text = len(text), text[self._ahead :]
            self._ahead = max(0, self._ahead - known)
        if self.stopped:
            reason = FinishReason.STOP
        if reason is None and not text:
            return None
        self._owed = ""
        self._emitted += len(text)
        return self._piece(text, reason, output.tokens_hidden)

    def kept(self) -> Kept | None:
        """Return nothing: pieces carry the tokens."""
        return None

    def _say(self, token_ids: Sequence[TokenId], logprobs: Sequence[float]) -> str:
        parts = []
        for place, token_id in enumerate(token_ids):
            new = self._detokenizer.push((token_id,))
            entry = self._entry(token_id, logprobs[place]) if logprobs else None
            self._waiting.append((self._chars, entry))
            self._new.append(token_id)
            self._chars += len(new)
            self._made += 1
            parts.append(self._filtered(new))
            if self.stopped:
                break
        return "".join(parts)

    def _filtered(self, text: str) -> str:
        if self._filter is None or self._made <= self._tokens_min:
            return text
        text = self._filter.push(text)
        self.stopped = self._filter.stopped
        return text

    def _last_words(self) -> str:
        text = self._filtered(self._detokenizer.flush())
        if self._filter is not None and not self.stopped:
            text += self._filter.flush()
        return text

    def _entry(self, token_id: TokenId, logprob: float) -> TokenLogprob:
        utf8 = self._token_bytes(token_id)
        return TokenLogprob(utf8.decode("utf-8", "replace"), utf8, logprob)

    def _piece(self, text: str, reason: FinishReason | None, hidden: int) -> Piece:
        waiting, emitted = self._waiting, self._emitted
        tokens, entries = 0, []
        while waiting and (waiting[0][0] < emitted or reason is not None):
            start, entry = waiting.popleft()
            tokens += 1
            if entry is not None and (start < emitted or not self.stopped):
                entries.append(entry)
        if reason is not None:
            tokens += hidden
        new = tuple(self._new)
        self._new.clear()
        return Piece(self._id, text, tokens, self._index, reason, tuple(entries), new)


class WholeCarefulChoice:
    """Pieces, joined once.  Mutable state: the pieces so far, and the tokens not yet told."""

    __slots__ = ("_choice", "_id", "_new", "_pieces")

    def __init__(self, id: ChoiceId, choice: CarefulChoice) -> None:
        """Keep what `choice` makes."""
        self._id = id
        self._choice = choice
        self._pieces: list[Piece] = []
        self._new: list[TokenId] = []

    @property
    def stopped(self) -> bool:
        """Whether a stop text has ended it."""
        return self._choice.stopped

    def take(self, output: StepOutput) -> Piece | None:
        """Return the whole choice as one piece, once it has ended."""
        self._new += output.token_ids
        piece = self._choice.take(output)
        if piece is None:
            return None
        pieces = self._pieces
        pieces.append(piece)
        if piece.finish_reason is None:
            return None
        return Piece(
            piece.id,
            "".join([each.text for each in pieces]),
            sum([each.tokens for each in pieces]),
            piece.choice,
            piece.finish_reason,
            tuple([entry for each in pieces for entry in each.logprobs]),
        )

    def kept(self) -> Kept | None:
        """Return the tokens since the last call."""
        new = tuple(self._new)
        self._new.clear()
        return Kept(self._id.request, self._id.index, new) if new else None
