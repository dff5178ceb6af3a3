"""The sections of the configuration.  Each class lives beside what it governs; here they meet."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_type_hints

from forebay.core.knob import Knob, knob, knobs
from forebay.engine import registry
from forebay.engine.supervisor import SupervisorConfig
from forebay.gateway.config import GatewayConfig
from forebay.models.catalogue import DEFAULT
from forebay.policy.residency import ResidencyConfig
from forebay.policy.rollout import RouteConfig
from forebay.serve.admission import AdmissionConfig
from forebay.serve.cache import CacheConfig
from forebay.serve.redis_link import StoreConfig
from forebay.serve.replay_config import ReplayConfig
from forebay.settings.offers import OfferConfig
from forebay.telemetry.logs import LogConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the server listens, and how it stops."""

    host: str = knob("127.0.0.1", "Address to listen on; one that others reach needs consent.")
    port: int = knob(8000, "Port to listen on; 0 takes a free one.", minimum=0, maximum=65_535)
    insecure_public: bool = knob(
        default=False,
        help="Listen where others can reach it, though nothing asks who they are.",
    )
    backlog_max: int = knob(
        2_048, "Connections that may wait to be accepted.", minimum=1, maximum=65_535
    )
    keep_alive_s: float = knob(
        75.0,
        "How long an idle connection stays open, in seconds; longer than the proxy's before it.",
        minimum=1.0,
        maximum=3_600.0,
    )
    drain_s_max: float = knob(
        30.0,
        "After SIGTERM, longest time for running requests to finish, in seconds.",
        minimum=0.0,
        maximum=3_600.0,
        live=True,
    )
    drain_retry_s: float = knob(
        5.0,
        "While stopping, the Retry-After that new requests are told, in seconds.",
        minimum=1.0,
        maximum=3_600.0,
        live=True,
    )
    admin_token: str = knob(
        "",
        "Bearer token for /admin, 16 characters or more; empty: only this machine may use it.",
        secret=True,
        live=True,
    )
    held_max: int = knob(
        200,
        "Most holdings of each kind that /admin/ledger lists; more are only counted.",
        minimum=0,
        maximum=10_000,
        live=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What is served, and where prepared models are kept."""

    name: str = knob(
        DEFAULT,
        "What to serve: a name that `forebay models` lists, or a source (hf:, pypi:, file:).",
    )
    cache: str = knob(
        "",
        "Folder of prepared models; empty is $XDG_CACHE_HOME/forebay, or ~/.cache/forebay.",
    )

    def folder(self, environ: Mapping[str, str] = os.environ) -> Path:
        """Return the folder of prepared models."""
        if self.cache:
            return Path(self.cache).expanduser()
        caches = environ.get("XDG_CACHE_HOME")
        return (Path(caches) if caches else Path.home() / ".cache") / "forebay"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Which engine makes the tokens."""

    name: str = knob(
        "auto",
        "Engine library; auto takes openvino. scripted needs no model and makes no sense.",
    )
    workers: int = knob(
        1,
        "Worker processes per model; each holds the model. A request outlives its worker.",
        minimum=1,
        maximum=64,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every knob's effective value."""

    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    residency: ResidencyConfig = field(default_factory=ResidencyConfig)
    log: LogConfig = field(default_factory=LogConfig)
    models: Mapping[str, OfferConfig] = field(default_factory=dict)
    """Models on offer by name; empty: `model.name` alone."""
    routes: Mapping[str, RouteConfig] = field(default_factory=dict)
    """Names that lead to one of several models."""
    engines: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of each installed engine, by its name."""

    def engine_options(self, name: str) -> dict[str, object]:
        """Return an engine's own configuration as plain data, for its worker."""
        config = self.engines.get(name)
        return dataclasses.asdict(config if config is not None else registry.find(name).config())


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One knob by its key: `admission.wait_s_max`."""

    key: str
    type: Any
    default: object
    knob: Knob


FIXED_SECTIONS: Final[dict[str, type]] = {
    name: its_type
    for name, its_type in get_type_hints(Settings).items()
    if isinstance(its_type, type) and dataclasses.is_dataclass(its_type)
}


def settings_of(sections: Mapping[str, type]) -> Iterator[Setting]:
    """Yield every setting of these sections."""
    for section, config in sections.items():
        types = get_type_hints(config)
        for facts, its_knob in knobs(config):
            yield Setting(
                key=f"{section}.{facts.name}",
                type=types[facts.name],
                default=facts.default,
                knob=its_knob,
            )
