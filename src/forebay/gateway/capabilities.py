"""What a model's API can do, as data: each parameter honoured, refused or without effect."""

from typing import Any

import msgspec

from forebay.core.request import SamplingAdvice
from forebay.engine.protocol import EngineInfo, Feature
from forebay.gateway import parameters
from forebay.gateway.config import GatewayConfig
from forebay.gateway.embeddings_parameters import EMBEDDINGS
from forebay.gateway.embeddings_schemas import EmbeddingsCall
from forebay.gateway.native_parameters import NATIVE
from forebay.gateway.parameters import Parameter, Verdict
from forebay.gateway.responses_parameters import RESPONSES
from forebay.gateway.responses_schemas import ResponsesCall
from forebay.gateway.schemas import ChatCall, TextCall
from forebay.gateway.tools import offered

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def capabilities(info: EngineInfo, config: GatewayConfig, advice: SamplingAdvice) -> dict[str, Any]:
    """Return what a model's engine honours, with the bounds that apply to it here."""
    return {
        "engine": info.name,
        "deterministic": info.deterministic,
        "context_tokens_max": info.context_tokens_max,
        "embedding_size": info.embedding_size or None,
        "defaults": {"temperature": advice.temperature, "top_p": advice.top_p},
        "features": sorted(feature.value for feature in offered(info, config)),
        "endpoints": {
            "/v1/chat/completions": _dialect(ChatCall, parameters.CHAT, info=info, config=config),
            "/v1/completions": _dialect(TextCall, parameters.TEXT, info=info, config=config),
            "/v1/responses": _dialect(ResponsesCall, RESPONSES, info=info, config=config),
            "/v1/embeddings": _dialect(EmbeddingsCall, EMBEDDINGS, info=info, config=config),
            **{
                path: _dialect(call, table, info=info, config=config)
                for path, (call, table) in NATIVE.items()
            },
        },
    }


def _dialect(
    call: type[msgspec.Struct],
    table: tuple[Parameter, ...],
    *,
    info: EngineInfo,
    config: GatewayConfig,
) -> dict[str, Any]:
    bounds = typed_bounds(call)
    supports = offered(info, config)
    configured = _configured(info, config)
    if call is not TextCall:
        configured["prompt"] = {"bytes_max": config.prompt_bytes_max}
    if call is EmbeddingsCall:
        configured["input"] = {
            "inputs_max": config.embedding_inputs_max,
            "bytes_max": config.prompt_bytes_max,
            "token_ids": Feature.TOKEN_IDS in info.supports,
        }
    for name, more in configured.items():
        bounds.get(name, {}).update(more)
    rows: dict[str, dict[str, Any]] = {}
    for parameter in sorted(table, key=lambda p: p.name):
        verdict = parameter.on(supports)
        rows[parameter.name] = {"verdict": verdict.value, "note": parameter.advice(verdict)}
        if verdict is Verdict.HONOURED and bounds[parameter.name]:
            rows[parameter.name]["bounds"] = bounds[parameter.name]
        if parameter.neutral:
            rows[parameter.name]["neutral"] = list(parameter.neutral)
    return rows


def typed_bounds(call: type[msgspec.Struct]) -> dict[str, dict[str, Any]]:
    """Return the bounds that stand in the schema, by parameter."""
    typed = msgspec.json.schema_components((call,))[1][call.__name__]["properties"]
    return {name: _number(schema) for name, schema in typed.items()}


def _number(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the bounds of the one number in `number | null`."""
    return {
        name: option[name]
        for option in schema.get("anyOf", [schema])
        for name in _BOUNDS
        if name in option
    }


def _configured(info: EngineInfo, config: GatewayConfig) -> dict[str, dict[str, Any]]:
    """Return the bounds that depend on this server or on the engine."""
    tokens = {"maximum": info.context_tokens_max}
    forms = ["text"]
    forms += ["json_object"] if Feature.JSON_OBJECT in info.supports else []
    forms += ["json_schema"] if Feature.JSON_SCHEMA in info.supports else []
    choices = ["none", "auto"]
    choices += ["required", "function"] if Feature.JSON_SCHEMA in info.supports else []
    return {
        "max_tokens": tokens,
        "max_new_tokens": tokens,
        "max_completion_tokens": tokens,
        "max_output_tokens": tokens,
        "min_tokens": tokens,
        "n": {"maximum": config.n_max},
        "stop": {"texts_max": config.stops_max, "bytes_max": config.stop_bytes_max},
        "messages": {
            "messages_max": config.messages_max,
            "bytes_max": config.prompt_bytes_max,
            "roles": ["system", "developer", "user", "assistant", "tool"],
            "content_types": ["text"],
        },
        "input": {
            "items_max": config.messages_max,
            "bytes_max": config.prompt_bytes_max,
            "types": ["message", "function_call", "function_call_output"],
            "content_types": ["input_text", "output_text"],
        },
        "text": {"types": forms, "schema_bytes_max": config.schema_bytes_max},
        "prompt": {
            "bytes_max": config.prompt_bytes_max,
            "token_ids": Feature.TOKEN_IDS in info.supports,
        },
        "tools": {
            "tools_max": config.tools_max,
            "types": ["function"],
            "schema_bytes_max": config.schema_bytes_max,
            "said_by": "template" if Feature.TOOLS in info.supports else "system message",
        },
        "tool_choice": {"types": choices, "calls_max": config.tool_calls_max},
        "prompts": {
            "prompts_max": config.batch_prompts_max,
            "bytes_max": config.prompt_bytes_max,
        },
        "response_format": {"types": forms, "schema_bytes_max": config.schema_bytes_max},
    }
