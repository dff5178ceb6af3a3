"""What is counted of HTTP exchanges: a reader of visits.

Theory of operation
-------------------
An exchange that is over is put aside, and counted among others or when somebody reads: one by
itself costs three times as much, for the processor has forgotten this code in between.  Route,
method and status come from closed sets, so that no client can make a series of its own; a series
is there from its first exchange on.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric as Family

from forebay.core.request import Route
from forebay.core.visit import Visit
from forebay.telemetry import http_catalogue
from forebay.telemetry.families import counter, histogram
from forebay.telemetry.http_catalogue import METHODS, STATUSES
from forebay.telemetry.tally import Histogram

_VISITS_MAX: Final = 64
"""Visits that are counted in one go."""
_OTHER: Final = METHODS[-1]
_NONE: Final = STATUSES[-1]


class _Sizes:
    """How long exchanges of one route took, and how large they were."""

    __slots__ = ("answers", "bodies", "durations")

    def __init__(self) -> None:
        self.durations = Histogram(http_catalogue.HTTP_DURATION)
        self.bodies = Histogram(http_catalogue.HTTP_REQUEST_SIZE)
        self.answers = Histogram(http_catalogue.HTTP_RESPONSE_SIZE)


class HttpTally:
    """Counts every exchange that is over."""

    def __init__(self) -> None:
        """Start with none."""
        # The whole mutable state: visits that are to be counted, and what was counted.
        self._visits: deque[Visit] = deque()
        self._counts: dict[tuple[str, str, str], int] = {}
        self._routes: dict[str, _Sizes] = {}

    def __call__(self, visit: Visit) -> None:
        """Count an exchange, before anybody reads."""
        self._visits.append(visit)
        if len(self._visits) >= _VISITS_MAX:
            self._count()

    def families(self) -> Iterator[Family]:
        """Yield what was counted."""
        self._count()
        requests = counter(http_catalogue.HTTP_REQUESTS)
        for labels, count in self._counts.items():
            requests.add_metric(labels, count)
        yield requests
        durations = histogram(http_catalogue.HTTP_DURATION)
        bodies = histogram(http_catalogue.HTTP_REQUEST_SIZE)
        answers = histogram(http_catalogue.HTTP_RESPONSE_SIZE)
        for route, sizes in self._routes.items():
            for family, measured in (
                (durations, sizes.durations),
                (bodies, sizes.bodies),
                (answers, sizes.answers),
            ):
                family.add_metric([route], measured.cumulative(), measured.sum)
        yield from (durations, bodies, answers)

    def _count(self) -> None:
        visits = self._visits
        while visits:
            # Taken before it is counted: one that cannot be would keep all others from it for ever.
            visit = visits.popleft()
            route = visit.route or Route.UNMATCHED.value
            method = visit.method if visit.method in _METHODS else _OTHER
            labels = route, method, _CLASSES.get(visit.status // 100, _NONE)
            self._counts[labels] = self._counts.get(labels, 0) + 1
            sizes = self._routes.get(route)
            if sizes is None:
                sizes = self._routes[route] = _Sizes()
            ended = visit.received if visit.ended is None else visit.ended
            sizes.durations.observe(ended - visit.received + visit.wait_s)
            sizes.bodies.observe(visit.body_bytes)
            sizes.answers.observe(visit.answer_bytes)


_METHODS: Final = frozenset(METHODS[:-1])
_CLASSES: Final = {number: f"{number}xx" for number in range(1, 6)}
