"""Forebay whose requests nobody reads: no metrics, log lines, spans, receipts or objectives.

It takes the same arguments as `forebay`.  There is no such setting, because whoever runs a
server wants to know what it does; it is here to measure what knowing costs.
"""

from typing import Any
from unittest import mock

from forebay import app
from forebay.__main__ import main
from forebay.observing import Observing


class Unobserved(Observing):
    """Readers that read nothing."""

    def __init__(self, *args: Any, **parts: Any) -> None:  # noqa: ANN401 - handed on
        """Make them, and leave them out."""
        super().__init__(*args, **parts)
        self.hooks, self.over = (), ()


if __name__ == "__main__":
    with mock.patch.object(app, "Observing", Unobserved):
        main()
