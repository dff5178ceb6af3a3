"""What the operator asks and orders of models: load, unload, versions, routes."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from forebay.accounts.audit_event import Action
from forebay.core.clock import Clock
from forebay.core.errors import Invalid, UnknownModel
from forebay.gateway.exchange import Exchange
from forebay.gateway.reading import Reader
from forebay.serve.lanes import Lanes
from forebay.serve.residency import Residency
from forebay.serve.routes import Route, RouteReading, Routes
from forebay.serve.versions import Versions

MODELS_PATH: Final = "/admin/models"
LOAD_PATH: Final = "/admin/models/load"
UNLOAD_PATH: Final = "/admin/models/unload"
ADD_PATH: Final = "/admin/versions/add"
REMOVE_PATH: Final = "/admin/versions/remove"
ROUTES_PATH: Final = "/admin/routes"
RESTART_PATH: Final = "/admin/routes/restart"
FLEET_PATHS: Final[Mapping[str, str]] = {
    MODELS_PATH: "GET",
    LOAD_PATH: "POST",
    UNLOAD_PATH: "POST",
    ADD_PATH: "POST",
    REMOVE_PATH: "POST",
    ROUTES_PATH: "GET",
    RESTART_PATH: "POST",
}
"""Path -> its method."""
FLEET_ACTIONS: Final[Mapping[str, Action]] = {
    LOAD_PATH: Action.MODEL_CHANGED,
    UNLOAD_PATH: Action.MODEL_CHANGED,
    ADD_PATH: Action.MODEL_CHANGED,
    REMOVE_PATH: Action.MODEL_CHANGED,
    RESTART_PATH: Action.ROUTE_CHANGED,
}
"""Path -> what the audit log calls it."""


class ModelOrder(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which model is meant."""

    model: str


class VersionOrder(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which version of which model is meant."""

    model: str
    version: str


class AdapterOrder(Struct, kw_only=True, forbid_unknown_fields=True):
    """A LoRA adapter that is to be a version of a model: `hf:ORG/REPO` or `file:/FOLDER`."""

    model: str
    version: str
    source: str


class RouteOrder(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which route is meant."""

    route: str


class ModelState(Struct, kw_only=True):
    """A model on offer, and how it stands in memory."""

    id: str
    engine: str
    loaded: bool
    memory_bytes: int
    load_s: float
    running: int
    waiting: int
    aliases: list[str]
    versions: list[str]
    hits: int
    misses: int
    failures: int
    error: str
    """Why it could not be loaded the last time; empty: it could, or was never tried."""


class ModelsPage(Struct, kw_only=True):
    """Every model on offer."""

    models: list[ModelState]


class RouteState(Struct, kw_only=True):
    """Where a route leads, and how its candidate does."""

    id: str
    shares: dict[str, float]
    stage: str
    reason: str
    shadow: str


class RoutesPage(Struct, kw_only=True):
    """Every route."""

    routes: list[RouteState]


class Done(Struct, kw_only=True):
    """An order was carried out."""

    done: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Answers for the models and routes of this server."""

    lanes: Lanes
    residency: Residency
    versions: Versions
    routes: Routes
    now: Clock

    async def answer(self, exchange: Exchange) -> bytes:
        """Carry out what one of `FLEET_PATHS` means; raises ServingError with the fix."""
        return await _ANSWERS[exchange.path](self, exchange)

    async def models_page(self, _: Exchange) -> bytes:
        """Tell of every model on offer."""
        readings = self.residency.readings
        page = ModelsPage(models=[self._state(name) for name in readings])
        return msgspec.json.encode(page)

    async def load(self, exchange: Exchange) -> bytes:
        """Bring a model into memory, and answer once it is there."""
        order = _MODEL.read(await exchange.body())
        name = self._known(order.model)
        await self.residency.load(name)
        return _done(f"{name} is in memory")

    async def unload(self, exchange: Exchange) -> bytes:
        """Let a model leave memory, and answer once its work is done and it is gone."""
        order = _MODEL.read(await exchange.body())
        name = self._known(order.model)
        was = await self.residency.unload(name)
        return _done(f"{name} has left memory" if was else f"{name} was not in memory")

    async def add(self, exchange: Exchange) -> bytes:
        """Put a version on offer."""
        order = _ADAPTER.read(await exchange.body())
        name = await self.versions.add(order.model, order.version, order.source)
        return _done(f"{name} is on offer")

    async def remove(self, exchange: Exchange) -> bytes:
        """Withdraw a version."""
        order = _VERSION.read(await exchange.body())
        await self.versions.remove(order.model, order.version)
        return _done(f"{order.model}:{order.version} is withdrawn")

    async def routes_page(self, _: Exchange) -> bytes:
        """Tell of every route."""
        page = RoutesPage(routes=[_route(route.reading()) for route in self.routes])
        return msgspec.json.encode(page)

    async def restart(self, exchange: Exchange) -> bytes:
        """Begin a rollout again at its first step."""
        order = _ROUTE.read(await exchange.body())
        route = self._route(order.route)
        if not route.config.candidate:
            message = f"route: {route.name} has no candidate that could begin again."
            raise Invalid(message, param="route", status=409)
        route.restart(self.now())
        return _done(f"the rollout of {route.name} begins again")

    def _known(self, name: str) -> str:
        if self.residency.model(name) is not None:
            return name
        known = ", ".join(listing.name for listing in self.lanes.listings)
        raise UnknownModel(f"model: there is none of that name. Served: {known}.", param="model")

    def _route(self, name: str) -> Route:
        route = self.routes.get(name)
        if route is None:
            known = ", ".join(route.name for route in self.routes) or "none"
            message = f"route: there is none of that name. There is: {known}."
            raise UnknownModel(message, param="route")
        return route

    def _state(self, name: str) -> ModelState:
        reading, model = self.residency.readings[name], self.residency.model(name)
        assert model is not None, "what is read is on offer"
        lane = self.lanes.get(name)
        load = lane.admission.load if lane is not None else None
        return ModelState(
            id=name,
            engine=model.listing.engine,
            loaded=reading.resident,
            memory_bytes=reading.memory_bytes,
            load_s=round(reading.load_s, 3),
            running=load.running if load else 0,
            waiting=load.waiting if load else 0,
            aliases=list(model.listing.aliases),
            versions=list(model.listing.versions),
            hits=self.lanes.hits[name],
            misses=self.lanes.misses[name],
            failures=reading.failures,
            error=reading.error,
        )


_MODEL: Final = Reader(ModelOrder)
_VERSION: Final = Reader(VersionOrder)
_ADAPTER: Final = Reader(AdapterOrder)
_ROUTE: Final = Reader(RouteOrder)

_ANSWERS: Final[Mapping[str, Callable[[Fleet, Exchange], Awaitable[bytes]]]] = {
    MODELS_PATH: Fleet.models_page,
    LOAD_PATH: Fleet.load,
    UNLOAD_PATH: Fleet.unload,
    ADD_PATH: Fleet.add,
    REMOVE_PATH: Fleet.remove,
    ROUTES_PATH: Fleet.routes_page,
    RESTART_PATH: Fleet.restart,
}


def _done(words: str) -> bytes:
    return msgspec.json.encode(Done(done=words))


def _route(reading: RouteReading) -> RouteState:
    return RouteState(
        id=reading.name,
        shares={model: round(share, 6) for model, share in reading.shares.items()},
        stage=reading.stage,
        reason=reading.reason,
        shadow=reading.shadow,
    )
