"""Events on their way into the audit log: a bounded queue, and a thread that writes them.

Whoever notes an event never waits.  While the database is away events are kept in memory, up to
`audit.queue_max`; then they are counted, and how many were lost is written as soon as it is back.
A disk that is full stops no request.  What strangers can cause, refusals, is written up to
`audit.refused_max` in a minute and counted beyond, and the count is one row a minute: nobody
fills a disk by failing to log in.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from forebay.accounts.audit_event import Action, AuditEvent
from forebay.accounts.config import AccountsAway, RowRefused
from forebay.core.errors import Outcome
from forebay.core.knob import knob
from forebay.core.record import EventLog

_FLUSH_S: Final = 0.2
"""How long an event may lie in memory while all is well."""
_REST_S: Final = 2.0
"""How long the database is left alone after it could not be asked."""
_BATCH_MAX: Final = 200
_MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """How much is kept of who did what, before it is written and at all."""

    queue_max: int = knob(
        10_000,
        "Most audit events in memory while the database is away; more are only counted.",
        minimum=1,
        maximum=1_000_000,
    )
    refused_max: int = knob(
        120,
        "Most refusals of one kind (failed logins, denied calls) that are written per minute; more "
        "are only counted.",
        minimum=0,
        maximum=1_000_000,
    )


class Book(Protocol):
    """Where events are written: `accounts.audit.Audit`."""

    def add(self, events: Sequence[tuple[float, AuditEvent]]) -> None:
        """Write events with the moments at which they happened, all or none."""


class Auditor:
    """Takes events from any thread without blocking; a thread of its own writes them."""

    def __init__(
        self, book: Book, config: AuditConfig, *, now: Callable[[], float], log: EventLog
    ) -> None:
        """Take the wall clock, in Unix seconds.  Nothing is written before `start`."""
        self._book = book
        self._config = config
        self._now = now
        self._log = log
        # The whole mutable state, under the lock: what waits, what was counted instead since it
        # was last written, and the present minute's refusals.
        self._lock = threading.Lock()
        self._waiting: deque[tuple[float, AuditEvent]] = deque()
        self._lost = 0
        self._skipped = 0
        self._minute = 0.0
        self._refused: Counter[Action] = Counter()
        # Of the thread alone.
        self._over = threading.Event()
        self._away = False
        self._counted: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Events that are not written yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._work, name="forebay-audit", daemon=True)
        self._thread.start()

    def note(self, event: AuditEvent) -> None:
        """Take an event, or count it; never blocks, never raises."""
        at = self._now()
        with self._lock:
            if event.outcome is not Outcome.OK and not self._room_for_refusal(event.action, at):
                self._skipped += 1
            elif len(self._waiting) >= self._config.queue_max:
                self._lost += 1
            else:
                self._waiting.append((at, event))

    def stop(self, wait_s_max: float) -> None:
        """Write what waits, for at most `wait_s_max`; what cannot be written is logged as lost."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(wait_s_max)
        if left := len(self._waiting) + self._lost:
            self._log("audit.lost", events=left)

    def _room_for_refusal(self, action: Action, at: float) -> bool:
        """Whether one more is written: of each kind so many, or one would hide another."""
        if not 0.0 <= at - self._minute < _MINUTE_S:
            self._minute = at
            self._refused.clear()
        self._refused[action] += 1
        return self._refused[action] <= self._config.refused_max

    # What follows runs in the thread.

    def _work(self) -> None:
        while not self._over.wait(_REST_S if self._away else _FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        self._count()
        while self._waiting:
            with self._lock:
                batch = [self._waiting[index] for index in range(self._batch_size())]
            if not self._write(batch):
                return
            with self._lock:
                for _ in batch:
                    self._waiting.popleft()

    def _batch_size(self) -> int:
        return min(len(self._waiting), _BATCH_MAX)

    def _write(self, batch: list[tuple[float, AuditEvent]]) -> bool:
        """Write a batch; False if it must be tried again."""
        try:
            self._book.add(batch)
        except AccountsAway:
            self._note_away(away=True)
            return False
        except RowRefused:
            # A chain that somebody else wrote into.  Trying again would keep out all that follow.
            self._log("audit.refused", events=len(batch))
        self._note_away(away=False)
        return True

    def _count(self) -> None:
        """Put what was only counted among what is written: at once, then once a minute."""
        now = self._now()
        soon = self._counted is not None and 0.0 <= now - self._counted < _MINUTE_S
        if soon and not self._over.is_set():
            return
        with self._lock:
            counts = {"refusals": self._skipped, "lost": self._lost}
            room = len(self._waiting) < self._config.queue_max
            if not any(counts.values()) or not room:
                return
            self._skipped = self._lost = 0
            event = AuditEvent(action=Action.SKIPPED, details=counts)
            self._waiting.append((now, event))
        self._counted = now
        self._log("audit.skipped", **counts)

    def _note_away(self, *, away: bool) -> None:
        if away != self._away:
            self._away = away
            self._log("audit.away" if away else "audit.back", events=len(self._waiting))
