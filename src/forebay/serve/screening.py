"""The input guard in a request's way: what is asked is screened, what is answered is watched.

Screened is what others than the operator may have written: the turns of users and the results of
tools, and prompts that are plain text.  System messages, the model's own turns and the
definitions of tools are the application's; vectors are not instructions to anybody.  Each text
is judged together with the end of the one before it, and its verdict is remembered, so that a
conversation that grows is judged by what is new.

Short prompts are judged at once.  Longer ones go to one thread, which lets the loop run after
each section and stops between two when nobody waits any more.

With the mode `block` what cannot be screened is refused as well: otherwise padding a prompt, or
sending it as token ids, would be a way around.
"""

import asyncio
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial, reduce
from hashlib import blake2b
from itertools import pairwise
from typing import Final, Protocol

from forebay.core.errors import Draining, Overloaded, Refused
from forebay.core.record import EventLog
from forebay.core.request import (
    Chat,
    Events,
    Prompt,
    Request,
    Role,
    Text,
    TokenIds,
)
from forebay.guard.config import GuardConfig, Invisible, Mode
from forebay.guard.folding import without_carriers
from forebay.guard.rules import Family
from forebay.guard.screen import CLEAN, Screen, Verdict
from forebay.serve.deadline import Deadline
from forebay.serve.leaks import Leaks, ended, noted

OTHERS: Final = frozenset({Role.USER, Role.TOOL})
"""Whose turns are screened."""
CLEAN_REASON: Final = "clean"
REASONS: Final = (
    *(CLEAN_REASON, *(family.value for family in Family)),
    *("canary", "too_long", "token_ids", "busy"),
)
ACTIONS: Final = ("passed", "flagged", "refused", "unscreened")
_SEAM_CHARACTERS: Final = 160
"""Of the end of the text before: a phrase may be cut where one turn ends."""
_RETRY_S: Final = 1.0
_STOPPING: Final = "The server is stopping. Ask another replica, or later."

_LOOKS_LIKE: Final[Mapping[Family, str]] = {
    Family.OVERRIDE: "calls off the instructions that the model was given",
    Family.EXTRACTION: "asks for the instructions that the model was given",
    Family.PERSONA: "asks the model to be somebody without rules",
    Family.MARKUP: "imitates the marks between the turns of a conversation",
    Family.EXFILTRATION: "asks for private data to be sent away",
    Family.ADDRESSED: "is a document that gives orders to the model",
    Family.DISGUISED: "hides instructions in invisible, encoded or cut text",
    Family.CLASSIFIER: "resembles known attacks in its choice of words",
}


class Judge(Protocol):
    """What judges texts: `Screen`."""

    def sections(self, text: str) -> Iterator[Verdict]:
        """Judge a text section by section."""


class Screening:
    """Screens requests, and watches answers; returns what it is given while it is off."""

    def __init__(self, config: GuardConfig, log: EventLog, *, judge: Judge | None = None) -> None:
        """Screen by `config`; weights are read, and a thread is made, when they are needed."""
        self._config = config
        self._log = log
        # The whole mutable state: what judges, verdicts by the digest of tenant and text (the
        # oldest first), what was counted, prompts in the thread or on their way, and whether
        # the end has come.
        self._judge = judge
        self._remembered: OrderedDict[bytes, Verdict] = OrderedDict()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None
        self._closed = threading.Event()
        self._leaks = Leaks(config.canary_secret)

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return how many prompts and answers came to what: (action, reason) -> count."""
        return self._counts

    def reconfigure(self, config: GuardConfig) -> None:
        """Go on by other settings; the secret of the canaries stays."""
        self._config = config
        self._forget(config.remembered_max)

    def close(self) -> None:
        """Stop the thread after the section it is at; nobody waits for it."""
        self._closed.set()
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    async def admitted(self, request: Request) -> Request:
        """Return the request as it may go on; raises Refused, Overloaded, DeadlineExceeded."""
        config = self._config
        if config.mode == Mode.OFF and config.invisible == Invisible.KEEP:
            return request
        if config.mode != Mode.OFF and not request.sampling.embed:
            await self._screen(request, config)
        if config.invisible == Invisible.REMOVE:
            request = replace(request, prompt=_seen(request.prompt))
        if config.mode != Mode.OFF and config.canary:
            request = self._leaks.marked(request)
        return request

    def watched(self, request: Request, events: Events) -> Events:
        """Return the events, watched for the canary that `admitted` put into the request."""
        config = self._config
        if config.mode == Mode.OFF or not config.canary:
            return events
        word = self._leaks.word_in(request)
        if not word:
            return events
        refused = config.mode == Mode.BLOCK
        leaked = partial(self._leaked, request, refused=refused)
        return (ended if refused else noted)(events, word, leaked)

    async def _screen(self, request: Request, config: GuardConfig) -> None:
        texts = _texts(request.prompt)
        if texts is None:
            self._unscreened(request, config, "token_ids")
            return
        if sum(map(_bytes, texts)) > config.inspected_bytes_max:
            self._unscreened(request, config, "too_long")
            texts = _shortened(texts, config.inspected_bytes_max)
        verdict = await self._verdict(request, config, texts)
        if verdict is None:
            self._unscreened(request, config, "busy")
        elif verdict.score >= config.score_min:
            self._suspected(request, config, verdict)
        else:
            self._count(request, "passed", CLEAN_REASON)

    def _count(self, request: Request, action: str, reason: str) -> None:
        self._counts[action, reason] += 1
        if request.visit is not None:
            request.visit.guard = f"{action} {reason}"

    async def _verdict(
        self, request: Request, config: GuardConfig, texts: Sequence[str]
    ) -> Verdict | None:
        """Judge all texts; None: too many wait to be judged."""
        seams = pairwise(("", *texts))
        pieces = [f"{before[-_SEAM_CHARACTERS:]}\n{text}" for before, text in seams]
        tenant = _digest(request.tenant, b"")
        digests = [_digest(piece, tenant) for piece in pieces]
        new = {
            digest: piece
            for digest, piece in zip(digests, pieces, strict=True)
            if digest not in self._remembered
        }
        old = [self._remembered[digest] for digest in digests if digest not in new]
        if sum(map(len, new.values())) <= config.inline_bytes_max:
            judged = [reduce(Verdict.__or__, self._judges().sections(p)) for p in new.values()]
        elif self._waiting >= config.waiting_max:
            return None
        else:
            judged = await self._aside(list(new.values()), request.deadline)
        self._remembered.update(zip(new, judged, strict=True))
        self._forget(config.remembered_max)
        return reduce(Verdict.__or__, [*old, *judged], CLEAN)

    async def _aside(self, pieces: list[str], deadline: float) -> list[Verdict]:
        """Judge in the thread."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "forebay-guard")
        unwanted = threading.Event()
        self._waiting += 1
        try:
            with Deadline(deadline):
                judging = self._thread.submit(self._work, pieces, unwanted)
                return await asyncio.wrap_future(judging)
        finally:
            unwanted.set()
            self._waiting -= 1

    def _work(self, pieces: list[str], unwanted: threading.Event) -> list[Verdict]:
        """Judge, in the thread, until nobody wants to know."""
        judged = []
        for piece in pieces:
            verdict = CLEAN
            for section in self._judges().sections(piece):
                verdict |= section
                if unwanted.is_set() or self._closed.is_set():
                    raise Draining(_STOPPING)  # where it is not wanted, nobody reads it
                time.sleep(0)  # the loop may have waited for the interpreter
            judged.append(verdict)
        return judged

    def _judges(self) -> Judge:
        if self._judge is None:
            self._judge = Screen()
        return self._judge

    def _forget(self, remembered_max: int) -> None:
        while len(self._remembered) > remembered_max:
            self._remembered.popitem(last=False)

    def _unscreened(self, request: Request, config: GuardConfig, reason: str) -> None:
        """Let pass what cannot be screened, or refuse it; either is counted and logged."""
        refused = config.mode == Mode.BLOCK
        self._count(request, "refused" if refused else "unscreened", reason)
        self._log("guard.unscreened", request_id=request.id, reason=reason, refused=refused)
        if not refused:
            return
        param = _param(request.prompt)
        if reason == "busy":
            raise Overloaded(
                "Too many long prompts wait to be screened; nothing was started.",
                retry_after_s=_RETRY_S,
            )
        if reason == "token_ids":
            raise Refused(
                f"{param}: token ids cannot be screened, and this server refuses what it cannot "
                "screen. Send the prompt as text.",
                param=param,
            )
        raise Refused(
            f"{param}: longer than the {config.inspected_bytes_max} bytes that are screened, and "
            "this server refuses what it cannot screen. Shorten it.",
            param=param,
        )

    def _suspected(self, request: Request, config: GuardConfig, verdict: Verdict) -> None:
        family = verdict.families[0] if verdict.families else Family.CLASSIFIER
        refused = config.mode == Mode.BLOCK
        self._count(request, "refused" if refused else "flagged", family.value)
        self._log(
            "guard.flagged",
            request_id=request.id,
            user=request.caller.user or None,
            family=family.value,
            rules=",".join(verdict.rules),
            score=round(verdict.score, 3),
            refused=refused,
        )
        if refused:
            param = _param(request.prompt)
            raise Refused(
                f"{param}: a text {_LOOKS_LIKE[family]} (rule family {family.value}), which this "
                "server refuses. Take it out, or tell the operator this "
                "request's id.",
                param=param,
            )

    def _leaked(self, request: Request, *, refused: bool) -> None:
        self._count(request, "refused" if refused else "flagged", "canary")
        self._log("guard.canary_seen", request_id=request.id, refused=refused)


def _texts(prompt: Prompt) -> list[str] | None:
    """Return what is screened of a prompt; None: it is not text."""
    match prompt:
        case Chat():
            return [each.content for each in prompt.messages if each.role in OTHERS]
        case Text():
            return [prompt.text]
        case TokenIds():
            return None


def _seen(prompt: Prompt) -> Prompt:
    """Return the prompt without invisible characters that can carry text."""
    match prompt:
        case Chat():
            messages = [
                replace(each, content=without_carriers(each.content)) for each in prompt.messages
            ]
            return replace(prompt, messages=tuple(messages))
        case Text():
            return replace(prompt, text=without_carriers(prompt.text))
        case TokenIds():
            return prompt


def _shortened(texts: Sequence[str], size: int) -> list[str]:
    """Return half of `size` characters from the beginning and half from the end."""
    whole = "\n".join(texts)
    return [whole[: size // 2], whole[-(size // 2) :]]


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _digest(text: str, key: bytes) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=key).digest()


def _param(prompt: Prompt) -> str:
    return "messages" if isinstance(prompt, Chat) else "prompt"


def unscreened() -> Screening:
    """Return a screening that is off."""
    return Screening(GuardConfig(), _say_nothing)


def _say_nothing(event: str, /, **fields: str | float | bool | None) -> None:
    """Hear what nobody is told."""
