"""What upstreams say of themselves: which program they are, what they serve, how much it holds."""

import dataclasses
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Struct

from forebay.engine.protocol import CannotLoad, EngineInfo
from forebay.engines.upstream_config import UpstreamConfig
from forebay.engines.upstream_dialect import DIALECTS, OWNERS, Dialect, adjusted
from forebay.engines.upstream_fault import Fault, Reason
from forebay.engines.upstream_refusals import shown

_CONTEXT_TOKENS_MAX: Final = 10_000_000
"""Where nobody says how much a model holds, the upstream refuses what is too much."""
_NAMES_SHOWN_MAX: Final = 8


class _Meta(Struct):
    n_ctx: int | None = None
    n_ctx_train: int | None = None


class _Model(Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    """vLLM's and SGLang's."""
    context_length: int | None = None
    meta: _Meta | None = None
    """llama-server's."""


class _Models(Struct):
    data: list[_Model] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the upstreams."""

    program: str
    dialect: Dialect
    model: str
    context_tokens_max: int
    connections_max: int

    def info(self, upstreams: int) -> EngineInfo:
        """Return it as an engine's facts."""
        return EngineInfo(
            name="upstream",
            context_tokens_max=self.context_tokens_max,
            running_max=self.connections_max * upstreams,
            supports=self.dialect.features,
            detail=f"{self.model} at {upstreams} upstream(s), {self.program}",
            device="remote",
        )


def learned(config: UpstreamConfig, listing: bytes) -> Known:
    """Return what a list of models says.  Raises Fault, or CannotLoad with the fix."""
    try:
        models = msgspec.json.decode(listing, type=_Models).data or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Fault(Reason.NOT_JSON, str(error)[:200]) from None
    model = _chosen(config, models)
    program = config.server
    if program == "auto":
        program = OWNERS.get(model.owned_by or "", "other")
    dialect = DIALECTS[program]
    features = adjusted(dialect.features, config.features)
    dialect = dataclasses.replace(dialect, features=features)
    return Known(
        program=program,
        dialect=dialect,
        model=model.id,
        context_tokens_max=config.context_tokens_max or _context_of(model),
        connections_max=config.connections_max,
    )


def _chosen(config: UpstreamConfig, models: list[_Model]) -> _Model:
    """Return the model that is asked for; where nothing is listed it is believed to be there."""
    names = ", ".join(shown(model.id.encode())[:60] for model in models[:_NAMES_SHOWN_MAX])
    if config.model:
        found = [model for model in models if model.id == config.model]
        if not found and models:
            raise CannotLoad(f"upstream.model: '{config.model[:80]}' is not there. There: {names}.")
        return found[0] if found else _Model(config.model)
    if len(models) == 1:
        return models[0]
    found_text = f"they serve {names}" if models else "they list no model"
    raise CannotLoad(f"Set upstream.model to a name: {found_text}.")


def _context_of(model: _Model) -> int:
    meta = model.meta or _Meta()
    for found in (model.max_model_len, model.context_length, meta.n_ctx, meta.n_ctx_train):
        if found is not None and 0 < found <= _CONTEXT_TOKENS_MAX:
            return found
    return _CONTEXT_TOKENS_MAX
