"""What is served and how it is doing, in the source documents' shapes."""

import time
from dataclasses import dataclass

import msgspec

from forebay import __version__
from forebay.core.errors import UnknownModel
from forebay.gateway.exchange import Exchange
from forebay.gateway.native_answers import (
    BaseModels,
    CachedModel,
    ModelInfo,
    ModelVersions,
    StatusPage,
)
from forebay.gateway.native_encoding import OWN_VERSION
from forebay.gateway.ops import Reply
from forebay.serve.lanes import Lane, Lanes, Listing
from forebay.serve.lifecycle import Lifecycle

_SERVICE = "Forebay"
_WELL = "healthy"


@dataclass(frozen=True, slots=True)
class NativePages:
    """Answers `/models`, `/model/info` and `/status`."""

    lifecycle: Lifecycle
    lanes: Lanes

    def models(self, exchange: Exchange) -> Reply:
        """List every model on offer, with its versions."""
        models = [
            ModelVersions(
                base_model=listing.name,
                versions=_versions(listing),
                description=_described(listing, self._lane(listing)),
            )
            for listing in self._listings(exchange)
        ]
        return Reply(body=msgspec.json.encode(BaseModels(models=models)))

    def info(self, exchange: Exchange) -> Reply:
        """Describe the model that answers whoever names none, and how busy it is."""
        listings = self._listings(exchange)
        if not listings:
            raise UnknownModel("No model is served here.")
        listing, lane = listings[0], self._lane(listings[0])
        info, load = (None, None) if lane is None else (lane.engine.info, lane.admission.load)
        page = ModelInfo(
            model=listing.name,
            versions=_versions(listing),
            description=_described(listing, lane),
            loaded=lane is not None,
            engine=info.name if info else listing.engine,
            detail=info.detail if info else "",
            context_tokens_max=info.context_tokens_max if info else None,
            running_max=info.running_max if info else None,
            features=sorted(feature.value for feature in info.supports) if info else [],
            running=load.running if load else 0,
            waiting=load.waiting if load else 0,
            tokens_generated=lane.engine.progress() if lane else 0,
            models=[each.name for each in listings],
        )
        return Reply(body=msgspec.json.encode(page))

    def status(self, exchange: Exchange) -> Reply:
        """Tell of the service as a whole, and which models are in memory."""
        well, reason = self.lifecycle.readiness()
        loaded = {lane.model for lane in self.lanes}
        page = StatusPage(
            service=_SERVICE,
            version=__version__,
            status=_WELL if well else reason,
            timestamp=time.time(),
            prometheus_available=True,
            cached_models=sum(listing.name in loaded for listing in self._listings(exchange)),
            device=", ".join(sorted({lane.engine.info.device for lane in self.lanes})),
            cached_model_info=[
                CachedModel(base_model=listing.name, version=version, loaded=listing.name in loaded)
                for listing in self._listings(exchange)
                for version in _versions(listing)
            ],
        )
        return Reply(body=msgspec.json.encode(page))

    def _listings(self, exchange: Exchange) -> list[Listing]:
        """Return what is on offer to whoever asks."""
        caller = exchange.caller
        return [each for each in self.lanes.listings if caller.may_ask(*each.names)]

    def _lane(self, listing: Listing) -> Lane | None:
        """Return the lane of a model, if it is in memory; asking does not count as a use."""
        return next((lane for lane in self.lanes if lane.model == listing.name), None)


def _versions(listing: Listing) -> list[str]:
    return [OWN_VERSION, *listing.versions]


def _described(listing: Listing, lane: Lane | None) -> str:
    if listing.description or lane is None:
        return listing.description
    info = lane.engine.info
    return f"{info.name}: {info.detail}" if info.detail else info.name
