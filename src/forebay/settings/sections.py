"""The sections of the configuration.  Each class lives beside what it governs; here they meet."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_args, get_type_hints

import msgspec

from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.prices import PriceConfig
from forebay.accounts.token_config import OidcConfig, TokensConfig
from forebay.core.knob import Knob, knob, knobs
from forebay.engine import registry
from forebay.engine.supervisor import SupervisorConfig
from forebay.gateway.config import GatewayConfig
from forebay.guard.config import GuardConfig
from forebay.models.catalogue import DEFAULT
from forebay.policy.residency import ResidencyConfig
from forebay.policy.rollout import RouteConfig
from forebay.serve.admission import AdmissionConfig
from forebay.serve.auditing import AuditConfig
from forebay.serve.bookkeeping import BudgetsConfig
from forebay.serve.cache import CacheConfig
from forebay.serve.credentials import AccessConfig
from forebay.serve.limits_config import LimitsConfig
from forebay.serve.login_config import LoginConfig
from forebay.serve.redis_link import StoreConfig
from forebay.serve.replay_config import ReplayConfig
from forebay.serve.slo_file import SloConfig
from forebay.settings.offers import OfferConfig
from forebay.telemetry.config import MetricsConfig
from forebay.telemetry.logs import LogConfig
from forebay.telemetry.otlp_config import OtlpMetricsConfig, TracesConfig
from forebay.telemetry.receipts import ReceiptsConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the server listens, and how it stops."""

    host: str = knob(
        "127.0.0.1", "Address to listen on; one that others reach needs access.mode=closed."
    )
    port: int = knob(8000, "Port to listen on; 0 takes a free one.", minimum=0, maximum=65_535)
    backlog_max: int = knob(
        2_048, "Connections that may wait to be accepted.", minimum=1, maximum=65_535
    )
    keep_alive_s: float = knob(
        75.0,
        "How long an idle connection stays open, in seconds; longer than the proxy's before it.",
        minimum=1.0,
        maximum=3_600.0,
    )
    connections_max: int = knob(
        8_192,
        "Most connections at once; one more is told 503 and closed.",
        minimum=1,
        maximum=1_000_000,
    )
    connections_per_address_max: int = knob(
        0,
        "Most connections of one client address (IPv6: of one /64); 0: no limit. Trusted proxies "
        "are not counted.",
        minimum=0,
        maximum=1_000_000,
    )
    hosts: str = knob(
        "",
        "Names, comma-separated, by which clients may call this server in the header Host; others "
        "are told 421. Empty: any.",
    )
    trusted_proxies: str = knob(
        "",
        "Networks, comma-separated, whose X-Forwarded-For is believed, as in 10.0.0.0/8, ::1; "
        "`unix`: whoever comes by a Unix socket.",
    )
    tls_certificate: str = knob(
        "", "File of the certificate, and of those between it and its root (PEM); empty: no TLS."
    )
    tls_key: str = knob("", "File of the certificate's key (PEM, not encrypted).")
    tls_handshake_s_max: float = knob(
        10.0,
        "Longest time for a client's TLS handshake, in seconds; then it is cut.",
        minimum=0.1,
        maximum=120.0,
    )
    hsts_s: int = knob(
        31_536_000,
        "With TLS: how long browsers shall ask by TLS only, in seconds; 0: nothing is said of it.",
        minimum=0,
        maximum=126_144_000,
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
    precision: str = knob(
        "",
        "What its matrices are kept in, where the engine's form leaves a choice (onnx: int8, int4, "
        "float32); empty: the default.",
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
    access: AccessConfig = field(default_factory=AccessConfig)
    accounts: AccountsConfig = field(default_factory=AccountsConfig)
    tokens: TokensConfig = field(default_factory=TokensConfig)
    oidc: OidcConfig = field(default_factory=OidcConfig)
    login: LoginConfig = field(default_factory=LoginConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    budgets: BudgetsConfig = field(default_factory=BudgetsConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    residency: ResidencyConfig = field(default_factory=ResidencyConfig)
    log: LogConfig = field(default_factory=LogConfig)
    receipts: ReceiptsConfig = field(default_factory=ReceiptsConfig)
    traces: TracesConfig = field(default_factory=TracesConfig)
    otlp_metrics: OtlpMetricsConfig = field(default_factory=OtlpMetricsConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    slo: SloConfig = field(default_factory=SloConfig)
    models: Mapping[str, OfferConfig] = field(default_factory=dict)
    """Models on offer by name; empty: `model.name` alone."""
    routes: Mapping[str, RouteConfig] = field(default_factory=dict)
    """Names that lead to one of several models."""
    prices: Mapping[str, PriceConfig] = field(default_factory=dict)
    """What models cost, by name."""
    engines: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of each installed engine, by its name."""

    @property
    def accounts_config(self) -> AccountsConfig:
        """The accounts' configuration, with the address of the file where none is set."""
        if self.accounts.url:
            return self.accounts
        return dataclasses.replace(self.accounts, url=default_url(self.replay.file().parent))

    def engine_config(self, name: str, options: Mapping[str, object]) -> Any:  # noqa: ANN401 - of the engine's class
        """Return an engine's configuration, with what a model sets for itself.

        Raises ValueError that names the option and what it takes.
        """
        config = self.engines.get(name) or registry.find(name).config()
        known = {each.key: each for each in settings_of({"": type(config)})}
        values = {}
        for option, value in options.items():
            setting = known.get(f".{option}")
            if setting is None:
                names = ", ".join(key.removeprefix(".") for key in known)
                raise ValueError(f"{name} has no setting {option[:60]}; it has {names}")
            try:
                values[option] = setting.convert(value, text=isinstance(value, str))
            except ValueError:
                raise ValueError(f"{option} must be {setting.allowed}") from None
        return dataclasses.replace(config, **values)

    def engine_options(
        self, name: str, options: Mapping[str, object] = MappingProxyType({})
    ) -> dict[str, object]:
        """Return an engine's own configuration as plain data, for its worker."""
        return dataclasses.asdict(self.engine_config(name, options))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One knob by its key: `admission.wait_s_max`."""

    key: str
    type: Any
    default: object
    knob: Knob

    @property
    def allowed(self) -> str:
        """What it takes, in words: `a whole number from 0 to 65535`."""
        facts = self.knob
        types = set(get_args(self.type)) or {self.type}
        if facts.choices:
            words = "one of " + ", ".join(facts.choices)
        elif bool in types:
            words = "true or false"
        elif int in types or float in types:
            number = "a number" if float in types else "a whole number"
            words = f"{number} from {_number(facts.minimum)} to {_number(facts.maximum)}"
        else:
            words = "text"
        return f"{words}, or null" if type(None) in types else words

    def convert(self, value: Any, *, text: bool) -> object:  # noqa: ANN401 - whatever was written
        """Return a value in the setting's type and bounds, or raise ValueError.

        `text`: the value is a text that stands for one of the setting's type.
        """
        if isinstance(value, bool) and self.knob.choices:
            value = "on" if value else "off"  # YAML reads these words so
        # JSON spells infinity and NaN in no way, but float() does; the bounds refuse both.
        value = msgspec.convert(value, self.type, strict=not text)
        facts = self.knob
        if facts.choices and value not in facts.choices:
            raise ValueError(self.key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert facts.minimum is not None
            assert facts.maximum is not None
            if not facts.minimum <= value <= facts.maximum:
                raise ValueError(self.key)
        found: object = value
        return found


def _number(bound: float | None) -> str:
    assert bound is not None, "a number has both bounds"
    return f"{bound:g}" if bound != int(bound) else f"{int(bound)}"


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
