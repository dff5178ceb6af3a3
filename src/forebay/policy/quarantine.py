"""Which of the requests aboard a lost worker may go on, and which one may have killed it.

Theory of operation
-------------------
A worker that is lost takes many requests with it, of which at most a few are to blame, and
mostly none.  So after a loss all that were aboard go on elsewhere, but as *suspects*: one at a
time per worker is *on probation*, until it has got beyond the point of the loss.  It goes on
where it stood, so what killed one worker at that point soon kills another, and is known then.

    CLEAN      was aboard no loss that nobody answered for
    SUSPECT    was aboard one: waits for a place on probation
    PROBATION  aboard, and watched: a loss now is held against it, and against nobody else
    CLEARED    got beyond that point; the loss it was aboard is not forgotten

At a loss, if somebody aboard was on probation, that one is GUILTY and the others stay what
they were; but nobody sees more than `_WITNESSED_MAX` of those, for the guilty may be innocent
where a worker is killed at no certain point, or from outside.  Otherwise everybody aboard
counts one loss more; who has counted `losses_max` is not run again.  If that is one alone, it
is GUILTY too.  The wish of the guilty is barred for `barred_s`: the same request, sent again,
is refused before it kills a third worker.

Pure: the moment is an argument.  Workers are any hashable names.
"""

import enum
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Final

_WITNESSED_MAX: Final = 4


class Verdict(enum.StrEnum):
    """What becomes of a request whose worker was lost."""

    GO_ON = "go_on"
    SPENT = "spent"
    """Aboard as often as is allowed; it may be innocent."""
    GUILTY = "guilty"


class Passenger:
    """A request on its way through workers.  Mutable state: its losses, and the last verdict."""

    __slots__ = ("losses", "suspect", "verdict", "watched_on", "witnessed")

    def __init__(self) -> None:
        """Be clean."""
        self.losses = 0
        self.witnessed = 0
        """Losses that it was aboard and somebody else answered for."""
        self.suspect = False
        """Was aboard a loss, and has not got beyond that point."""
        self.watched_on: Hashable | None = None
        """The worker on which it is on probation."""
        self.verdict = Verdict.GO_ON


class Quarantine:
    """Judges losses.  Mutable state: who is on probation where, and the barred wishes."""

    def __init__(self, *, losses_max: int, barred_s: float, barred_max: int) -> None:
        """Run nobody again who was aboard `losses_max` losses; remember at most `barred_max`."""
        assert losses_max >= 1
        self._losses_max = losses_max
        self._barred_s = barred_s
        self._barred_max = barred_max
        self._watched: dict[Hashable, Passenger] = {}
        self._barred: OrderedDict[Hashable, float] = OrderedDict()
        """Wish -> until when."""

    @property
    def barred(self) -> int:
        """How many wishes are remembered."""
        return len(self._barred)

    def bar(self, wish: Hashable, now: float) -> None:
        """Remember what has killed workers."""
        self._barred[wish] = now + self._barred_s
        self._barred.move_to_end(wish)
        if len(self._barred) > self._barred_max:
            self._barred.popitem(last=False)

    def is_barred(self, wish: Hashable, now: float) -> bool:
        """Whether this wish has killed workers, not long ago."""
        until = self._barred.get(wish)
        if until is None:
            return False
        if until <= now:
            del self._barred[wish]
            return False
        return True

    def may_board(self, worker: Hashable, passenger: Passenger) -> bool:
        """Whether it may go aboard this worker now."""
        return not passenger.suspect or worker not in self._watched

    def board(self, worker: Hashable, passenger: Passenger) -> None:
        """Let it go aboard; a suspect is on probation from now on."""
        assert self.may_board(worker, passenger), "one at a time is on probation"
        if passenger.suspect:
            self._watched[worker] = passenger
            passenger.watched_on = worker

    def progressed(self, passenger: Passenger) -> None:
        """Note that it has got beyond the point of its last loss: it is no suspect any more."""
        passenger.suspect = False
        self.left(passenger)

    def left(self, passenger: Passenger) -> None:
        """Note that it is not aboard any more; of somebody who was not, there is nothing to do."""
        if passenger.watched_on is not None:
            del self._watched[passenger.watched_on]
            passenger.watched_on = None

    def lost(self, worker: Hashable, aboard: Sequence[Passenger]) -> Passenger | None:
        """Give everybody who was aboard a verdict; return the guilty one, if there is one."""
        watched = self._watched.get(worker)
        if watched is not None:
            self.left(watched)
            if any(passenger is watched for passenger in aboard):
                watched.losses += 1
                for passenger in aboard:
                    passenger.witnessed += 1
                    if passenger.witnessed >= _WITNESSED_MAX:
                        passenger.verdict = Verdict.SPENT
                watched.verdict = Verdict.GUILTY
                return watched
        spent = []
        for passenger in aboard:
            passenger.losses += 1
            passenger.suspect = True
            if passenger.losses >= self._losses_max:
                passenger.verdict = Verdict.SPENT
                spent.append(passenger)
        if len(spent) != 1:
            return None
        spent[0].verdict = Verdict.GUILTY
        return spent[0]
