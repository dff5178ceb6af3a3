"""Names that lead to one of several models: A/B splits, candidates on probation, shadows.

A route is chosen before anything else is known of a request; what came of the request is learned
from its record, like everything else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from forebay.core.caller import ANONYMOUS
from forebay.core.clock import Clock
from forebay.core.errors import OUTCOMES, Objective
from forebay.core.record import EventLog, RequestRecord
from forebay.core.request import Source
from forebay.policy.rollout import Rollout, RouteConfig, Sample
from forebay.policy.split import Part, choose, parse_split, point


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReading:
    """How a route stands."""

    name: str
    shares: Mapping[str, float]
    """Model -> part of the callers who come to it."""
    stage: str = ""
    """Of its candidate; empty where there is none."""
    reason: str = ""
    """Why it stands where it does."""
    shadow: str = ""


class Route:
    """One route.  Mutable state: its rollout, and why that moved last."""

    def __init__(self, name: str, config: RouteConfig, now: float) -> None:
        """Read the split; raises ValueError for one that cannot be read."""
        self.name = name
        self.config = config
        self._split = parse_split(config.split)
        self._rollout = Rollout(config, now) if config.candidate else None
        self._reason = ""

    def parts(self) -> tuple[Part, ...]:
        """Return where it leads, with weights whose sum is 1; the candidate comes last."""
        share = self._rollout.share if self._rollout else 0.0
        whole = sum(part.weight for part in self._split)
        rest = [Part(part.model, part.weight / whole * (1.0 - share)) for part in self._split]
        return (*rest, Part(self.config.candidate, share)) if self._rollout else tuple(rest)

    def choose(
        self,
        tenant: str,
        key: str | None,
        request: str,
        *,
        offered: Callable[[str], bool] = lambda _: True,
    ) -> str:
        """Return the model for a caller; whoever sends a request again comes to the same one.

        Nobody knows who is anonymous: such a caller is taken for its key, or its request's id.
        A version that was withdrawn leaves its callers to the others.
        """
        if key is not None and (self.config.sticky == "key" or tenant == ANONYMOUS):
            caller = f"{tenant}\0{key}"
        else:
            caller = request if tenant == ANONYMOUS else tenant
        parts = self.parts()
        for leading in (parts, self._split):  # the split has those who went to the candidate
            there = [part for part in leading if part.weight and offered(part.model)]
            if there:
                return choose(there, point(self.name, caller))
        return parts[0].model  # whoever comes is told that it is not served

    def saw(self, record: RequestRecord, now: float) -> str:
        """Learn from a request that came this way; return what it changed, in words."""
        if self._rollout is None or record.timeline.source is not Source.ENGINE:
            return ""
        objective = OUTCOMES[record.outcome].objective
        if objective is Objective.IGNORED:
            return ""
        sample = Sample(
            failed=objective is Objective.BAD, ttft_s=record.ttft_s, tpot_s=record.tpot_s
        )
        is_candidate = record.model == self.config.candidate
        move = self._rollout.saw(sample, now, candidate=is_candidate)
        if move is None:
            return ""
        self._reason = move.reason
        return move.stage.value

    def reading(self) -> RouteReading:
        """Return how it stands."""
        return RouteReading(
            name=self.name,
            shares={part.model: part.weight for part in self.parts()},
            stage=self._rollout.stage.value if self._rollout else "",
            reason=self._reason,
            shadow=self.config.shadow,
        )

    def restart(self, now: float) -> None:
        """Begin the rollout again, at its first step."""
        if self._rollout is not None:
            self._rollout = Rollout(self.config, now)
            self._reason = ""


class Routes:
    """Every route by name; a hook that learns from records."""

    def __init__(self, configs: Mapping[str, RouteConfig], now: Clock, log: EventLog) -> None:
        """Open the routes."""
        self._now = now
        self._log = log
        self._routes = {name: Route(name, config, now()) for name, config in configs.items()}

    def __iter__(self) -> Iterator[Route]:
        """Yield each route."""
        return iter(self._routes.values())

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._routes)

    def get(self, name: str) -> Route | None:
        """Return the route of a name."""
        return self._routes.get(name)

    def __call__(self, record: RequestRecord) -> None:
        """Learn from a record of a request that came by a route."""
        route = self._routes.get(record.via) if record.via else None
        if route is None:
            return
        if stage := route.saw(record, self._now()):
            reading = route.reading()
            self._log(
                f"route.{stage}",
                level="warning" if stage == "rolled_back" else "info",
                route=route.name,
                candidate=route.config.candidate,
                share=reading.shares[route.config.candidate],
                reason=reading.reason,
            )
