"""A server that loses a record when it is told to: `python -m forebay.drill.forgetful serve`.

No fault of sound code breaks the ledger, so an alert for it could never be seen.  This is the
server as it is, but that its ledger is not told of one request's end after SIGUSR1, and is told
of it at last after SIGUSR2.  It is for the drill of alerts; no setting leads here.
"""

import runpy
import signal
from types import FrameType

from forebay.core.record import RequestRecord
from forebay.serve.ledger import Ledger

_count = Ledger.__call__


class Forgetful:
    """Stands between records and the ledger.  Mutable state: the record that was kept back."""

    def __init__(self) -> None:
        """Pass on every record."""
        self._withheld: tuple[Ledger, RequestRecord] | None = None
        self._withholds = False

    def take(self, ledger: Ledger, record: RequestRecord) -> None:
        """Pass a record on, or keep it back."""
        if self._withholds and self._withheld is None:
            self._withheld = ledger, record
        else:
            _count(ledger, record)

    def withhold(self, _signal: int, _frame: FrameType | None) -> None:
        """Keep the next record back."""
        self._withholds = True

    def give(self, _signal: int, _frame: FrameType | None) -> None:
        """Pass on what was kept back, late."""
        self._withholds = False
        if self._withheld is not None:
            _count(*self._withheld)
            self._withheld = None


def main() -> None:
    """Run the command line with a ledger that can forget."""
    forgetful = Forgetful()

    def told(ledger: Ledger, record: RequestRecord) -> None:
        forgetful.take(ledger, record)

    setattr(Ledger, "__call__", told)  # noqa: B010 - a method is not assigned to otherwise
    signal.signal(signal.SIGUSR1, forgetful.withhold)
    signal.signal(signal.SIGUSR2, forgetful.give)
    # The command line lies above drills: it is run, not imported.
    runpy.run_module("forebay.cli.main", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
