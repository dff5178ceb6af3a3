"""System messages carry a secret word, and answers are watched for it.

Whoever finds the word in an answer knows that the model repeats its instructions.  It is seen
only as it was written: a model that is asked to spell it backwards gives it away unseen.
"""

import secrets
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from forebay.core.errors import Refused
from forebay.core.request import (
    Chat,
    Delta,
    Events,
    Finished,
    Request,
    Role,
    TokenId,
    TokenLogprob,
)
from forebay.guard.canary import NOTE, Canaries, Watch

SYSTEM: Final = frozenset({Role.SYSTEM, Role.DEVELOPER})


class Leaks:
    """Puts the word in, and looks for it."""

    def __init__(self, secret: str) -> None:
        """Make words from `secret`; empty: from one of this process's own."""
        self._canaries = Canaries(secret.encode() or secrets.token_bytes(32))

    def marked(self, request: Request) -> Request:
        """Return the request with its tenant's word in its first system message, if it has one.

        A system message is not added where there is none: nothing could leak, and a template
        would leave out its own.
        """
        if not isinstance(request.prompt, Chat):
            return request
        messages = list(request.prompt.messages)
        for at, message in enumerate(messages):
            if message.role in SYSTEM:
                note = NOTE.format(word=self._canaries.of(request.tenant))
                messages[at] = replace(message, content=message.content + note)
                prompt = replace(request.prompt, messages=tuple(messages))
                return replace(request, prompt=prompt)
        return request

    def word_in(self, request: Request) -> str:
        """Return the word that `marked` put into a request; empty: it has none."""
        if not isinstance(request.prompt, Chat):
            return ""
        word = self._canaries.of(request.tenant)
        system = (each.content for each in request.prompt.messages if each.role in SYSTEM)
        return word if any(word in content for content in system) else ""


async def noted(events: Events, word: str, leaked: Callable[[], None]) -> Events:
    """Pass an answer on as it is; call `leaked` once if the word is in it."""
    watches: dict[int, Watch] = {}
    seen = False
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Delta) and not seen:
                watch = watches.setdefault(event.choice, Watch(word))
                if watch.push(event.text) is None:
                    seen = True
                    leaked()
            yield event


async def ended(events: Events, word: str, leaked: Callable[[], None]) -> Events:
    """Pass an answer on, behind by what may be the word's beginning; end it at the word.

    Nothing of the word is shown.  Raises Refused, after `leaked` was called.
    """
    choices: dict[int, _Choice] = {}
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Delta):
                choice = choices.get(event.choice)
                if choice is None:
                    choice = choices[event.choice] = _Choice(Watch(word), event.choice)
                shown = choice.watch.push(event.text)
                if shown is None:
                    leaked()
                    raise Refused(_ENDED)
                passed = choice.passed(event, shown)
                if passed is not None:
                    yield passed
                continue
            if isinstance(event, Finished):
                for choice in choices.values():
                    if choice.owes:
                        yield choice.rest()
            yield event


_ENDED: Final = (
    "The answer was ended: it was about to repeat text that is marked as confidential. "
    "Ask for something else."
)


@dataclass(slots=True)
class _Choice:
    """One choice's text that may be the beginning of the word, and what came with it."""

    watch: Watch
    choice: int
    tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    token_ids: tuple[TokenId, ...] = ()

    @property
    def owes(self) -> bool:
        """Whether anything is held back."""
        return bool(self.watch.held or self.tokens or self.logprobs or self.token_ids)

    def passed(self, delta: Delta, shown: str) -> Delta | None:
        """Return what may be shown now of a delta; None: nothing yet."""
        if shown == delta.text and not self.owes:
            return delta
        self.tokens += delta.tokens
        self.logprobs += delta.logprobs
        self.token_ids += delta.token_ids
        if self.watch.held and delta.finish_reason is None:
            # What comes with text that is held may spell it: token ids, log-probabilities.
            if not shown:
                return None
            tokens, self.tokens = self.tokens, 0
            return replace(delta, text=shown, tokens=tokens, logprobs=(), token_ids=())
        rest = self.rest()
        return replace(
            delta,
            text=shown + rest.text,
            tokens=rest.tokens,
            logprobs=rest.logprobs,
            token_ids=rest.token_ids,
        )

    def rest(self) -> Delta:
        """Return all that is held, and hold nothing."""
        rest = Delta(
            text=self.watch.held,
            tokens=self.tokens,
            choice=self.choice,
            logprobs=self.logprobs,
            token_ids=self.token_ids,
        )
        self.watch.held, self.tokens, self.logprobs, self.token_ids = "", 0, (), ()
        return rest
