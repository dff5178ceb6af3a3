"""What takes telemetry from the event loop and delivers it: a bounded queue and a thread.

Whoever puts something in only appends to a deque.  A collector that is slow, gone or mad costs
what waits here, which is counted, and never a request.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from forebay.core.record import EventLog

T = TypeVar("T")

FLUSH_S: Final = 0.5
"""How long something may lie here while the collector keeps up."""

BATCH_MAX: Final = 64
"""Exchanges per delivery: about 400 spans, 200 kB."""

_LEAVE_S: Final = 0.5
"""How long a delivery may take to notice that it is given up."""


class Sender(Generic[T]):
    """Delivers what is put in, in order, from a thread of its own."""

    def __init__(
        self,
        name: str,
        deliver: Callable[[list[T]], bool],
        log: EventLog,
        *,
        queue_max: int,
        give_up: Callable[[], None],
    ) -> None:
        """`deliver` says whether it arrived; `give_up` makes it return soon."""
        self._name = name
        self._deliver = deliver
        self._log = log
        self._give_up = give_up
        self._queue_max = queue_max
        # The whole mutable state: what waits, how much was delivered and lost on each side, how
        # the last delivery went, and whether it is over.
        self._queue: deque[T] = deque()
        self.sent = 0
        self._refused = 0
        self._lost = 0
        self._failing = False
        self._over = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._work, name=f"otlp-{name}", daemon=True)

    @property
    def dropped(self) -> int:
        """What was lost since the start: the queue was full, or it could not be delivered."""
        return self._refused + self._lost

    @property
    def waiting(self) -> int:
        """What is to be delivered."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def put(self, item: T) -> None:
        """Take something to be delivered, or drop it if the queue is full."""
        if len(self._queue) >= self._queue_max:
            self._refused += 1
        else:
            self._queue.append(item)

    def stop(self, wait_s_max: float) -> None:
        """Deliver what is left, for at most `wait_s_max` and a moment; the rest is lost."""
        self._over.set()
        self._thread.join(wait_s_max)
        self._given_up = True
        self._give_up()
        self._thread.join(_LEAVE_S)
        self._refused += len(self._queue)
        self._queue.clear()

    def _work(self) -> None:
        while not self._over.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while self._queue and not self._given_up:
            size = min(len(self._queue), BATCH_MAX)
            batch = [self._queue.popleft() for _ in range(size)]
            try:
                arrived, error = self._deliver(batch), ""
            except Exception as defect:  # noqa: BLE001 - of a foreign library: one batch is lost
                arrived, error = False, type(defect).__name__
            if arrived:
                self.sent += size
            else:
                self._lost += size
            self._note(error, failing=not arrived)

    def _note(self, error: str, *, failing: bool) -> None:
        """Tell the log when deliveries begin to fail, and when they succeed again; once each."""
        if failing is not self._failing:
            self._failing = failing
            event = "telemetry.lost" if failing else "telemetry.arrives"
            level = "warning" if failing else "info"
            why = error or None
            self._log(event, level=level, sink=self._name, dropped=self.dropped, error=why)
