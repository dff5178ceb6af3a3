"""The facts of one request, written once, by ending; everything else reads them.

The measures' definitions live here and nowhere else (see `docs/glossary.md`):

- *TTFT*: first non-empty delta made - received; includes queue, tokenizing, prefill.
- *TPOT*: (last token - first token) / (output tokens - 1); undefined below two tokens.
- *ITL*: each gap between consecutive deltas of a stream; a delta of k tokens is one gap.
- *queue time*: admitted - received.  *e2e*: ended - received.
- *overhead*: e2e - queue time - the engine's own time.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from forebay.core.caller import NOBODY, Caller
from forebay.core.errors import Outcome
from forebay.core.request import (
    Admitted,
    Begun,
    Delta,
    EngineTiming,
    Event,
    Finished,
    FinishReason,
    Request,
    RequestId,
    Route,
    Scheduled,
    Source,
    Usage,
)
from forebay.core.value import value
from forebay.core.visit import Visit

GAP_BOUNDS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05),
    *(0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""Upper bounds of the inter-token histogram, seconds: 1 ms (small models in batches) to 5 s."""


@dataclass(slots=True)
class Said:
    """An answer's text, kept beside its record where the operator wants that, up to a bound."""

    characters_left: int
    texts: dict[int, list[str]] = field(default_factory=dict)
    """By choice."""

    def add(self, choice: int, text: str) -> None:
        """Keep as much of a piece as there is room for."""
        if text and self.characters_left > 0:
            self.texts.setdefault(choice, []).append(text[: self.characters_left])
            self.characters_left -= len(text)

    def by_choice(self) -> list[str]:
        """Return the text of each choice."""
        return ["".join(self.texts[choice]) for choice in sorted(self.texts)]


@dataclass(slots=True, kw_only=True)
class Timeline:
    """When a request passed each station; monotonic seconds of this process, None if never."""

    received: float
    admitted: float | None = None
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    ended: float | None = None
    engine: EngineTiming | None = None
    gaps: list[int] = field(default_factory=list)
    """Counts of inter-token gaps per bucket of `GAP_BOUNDS_S`, the last for longer ones."""
    gaps_sum_s: float = 0.0
    source: Source = Source.ENGINE
    ttft_forecast_s: float | None = None
    """What the door expected of the time to first token; None where it did not say."""
    finish_reasons: tuple[FinishReason, ...] = ()
    """Why each choice stopped, in the order in which they did."""
    said: Said | None = None
    """Its text; None: nobody wants it."""

    def saw(self, event: Event, now: float) -> None:
        """Note an event that leaves the pipeline at `now`."""
        match event:
            case Delta():
                if event.finish_reason is not None:
                    self.finish_reasons += (event.finish_reason,)
                if self.said is not None:
                    self.said.add(event.choice, event.text)
                if not event.tokens:
                    return
                if self.last_token is None:
                    self.first_token = now
                else:
                    self._note_gap(now - self.last_token)
                self.last_token = now
            case Begun():
                self.source = event.source
            case Admitted():
                self.admitted = now
                self.ttft_forecast_s = event.ttft_forecast_s
            case Scheduled():
                self.scheduled = now
            case Finished():
                self.engine = event.timing

    def first_token_at(self, *, stream: bool) -> float | None:
        """Return when the first token was made; None if none was.

        Of a completion that is sent whole, the first delta leaves with the last; the engine's
        own measure, added to the moment of admission, says when the first token was made.
        """
        engine_s = self.engine.first_token_s if self.engine else None
        if stream or self.first_token is None or engine_s is None or self.admitted is None:
            return self.first_token
        return self.admitted + engine_s

    def _note_gap(self, gap_s: float) -> None:
        if not self.gaps:
            self.gaps = [0] * (len(GAP_BOUNDS_S) + 1)
        self.gaps[bisect_left(GAP_BOUNDS_S, gap_s)] += 1
        self.gaps_sum_s += gap_s


@value
class RequestRecord:
    """One request from the door to its ending.  Written once; never changed."""

    id: RequestId
    route: Route
    model: str
    outcome: Outcome
    status: int
    timeline: Timeline
    request: Request | None = None
    """None when it ended before it could be understood."""
    usage: Usage | None = None
    error: str | None = None
    """The message that the client was given."""
    via: str = ""
    """The route that led to the model; empty where the client named the model itself."""
    caller: Caller = NOBODY
    """Who asked, as far as it was known."""
    visit: Visit | None = None
    """The exchange that it came by; several requests of a batch have one."""

    @property
    def e2e_s(self) -> float:
        """Seconds from receipt to ending."""
        assert self.timeline.ended is not None, "a record is written by ending"
        return self.timeline.ended - self.timeline.received

    @property
    def queue_s(self) -> float | None:
        """Seconds spent waiting for a place; None if it never got one."""
        admitted = self.timeline.admitted
        return None if admitted is None else admitted - self.timeline.received

    @property
    def ttft_s(self) -> float | None:
        """Time to first token, seconds; None if no token was made."""
        stream = self.request is None or self.request.stream
        first_token = self.timeline.first_token_at(stream=stream)
        return None if first_token is None else first_token - self.timeline.received

    @property
    def ttft_error_s(self) -> float | None:
        """Time to first token less what the door expected of it, seconds; None where unknown."""
        actual_s, expected_s = self.ttft_s, self.timeline.ttft_forecast_s
        return None if actual_s is None or expected_s is None else actual_s - expected_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first, seconds; None below two tokens."""
        usage, timeline = self.usage, self.timeline
        if usage is None or usage.completion_tokens < 2:  # noqa: PLR2004 - a gap needs two
            return None
        if self.request is not None and not self.request.stream:
            decode_s = timeline.engine.decode_s if timeline.engine else None
        elif timeline.last_token is None or timeline.first_token is None:
            decode_s = None
        else:
            decode_s = timeline.last_token - timeline.first_token
        return None if decode_s is None else decode_s / (usage.completion_tokens - 1)

    @property
    def overhead_s(self) -> float | None:
        """Seconds that were neither queue nor engine; None where the engine's are unknown."""
        engine, queue_s = self.timeline.engine, self.queue_s
        if engine is None or engine.first_token_s is None or queue_s is None:
            return None
        return self.e2e_s - queue_s - engine.first_token_s - (engine.decode_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Something held: what `/admin/ledger` lists.  Moments are monotonic seconds."""

    kind: str
    """Such as `place`, `waiting`, `engine_request`, `flight`, `lease`."""
    owner: str
    """The request's id, or whatever else holds it."""
    tenant: str = ""
    amount: int = 1
    since: float
    expires: float | None = None


Holder = Callable[[], Iterable[Holding]]
"""What knows what is held, read when somebody asks."""

Hook = Callable[[RequestRecord], None]
"""A reader of records.  It must not raise and must not block."""


class EventLog(Protocol):
    """Takes state changes as events with fields: `log("worker.restarted", reason="exited")`."""

    def __call__(self, event: str, /, **fields: str | float | bool | None) -> None:
        """Note an event; must not raise and must not block."""
