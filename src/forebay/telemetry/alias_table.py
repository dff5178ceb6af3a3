"""Every foreign name at `/metrics`: those of the source documents, and vLLM's.

One row per name.  What autoscalers and probes read comes first: it is small, and where a page is
full the last rows are left out.  What is not measured here has no row: `UNMEASURED` says which
names those are, and why.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from forebay.core.errors import OUTCOMES, Blame, Outcome
from forebay.core.request import Route
from forebay.telemetry.aliases import Alias, AliasSet, Labels, Reading
from forebay.telemetry.catalogue import UNKNOWN
from forebay.telemetry.metric import Kind

ENDPOINTS: Final[dict[str, str]] = {
    Route.CHAT_COMPLETIONS: "/v1/chat/completions",
    Route.COMPLETIONS: "/v1/completions",
    Route.RESPONSES: "/v1/responses",
    Route.EMBEDDINGS: "/v1/embeddings",
    Route.GENERATE: "/generate",
    Route.GENERATE_STREAM: "/generate_stream",
    Route.GENERATE_BATCH: "/generate_batch",
    Route.INFER: "/infer",
    Route.STREAMS: "/v1/streams/{id}",
}
"""Where a route has one path, the path: what others call an endpoint, or a handler."""

OWN_VERSION: Final = "default"
"""The version that is a model's own weights, as `/infer` calls it too."""

_STATUS: Final = {
    outcome.value: {Blame.NOBODY: "success", Blame.US: "error", Blame.CALLER: "client_error"}[
        ending.blame
    ]
    for outcome, ending in OUTCOMES.items()
}
_FAILED: Final = frozenset(outcome.value for outcome in Outcome) - {Outcome.OK.value}


def _same(label: str) -> Callable[[Labels], str]:
    return lambda labels: labels[label]


def _endpoint(labels: Labels) -> str:
    return ENDPOINTS.get(labels["route"], labels["route"])


def _base(labels: Labels) -> str:
    return labels["model"].partition(":")[0]


def _version(labels: Labels) -> str:
    return labels["model"].partition(":")[2] or OWN_VERSION


def _status(labels: Labels) -> str:
    return _STATUS.get(labels["outcome"], "error")


def _domain(_: Labels) -> str:
    return UNKNOWN


_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_MODEL: Final = {"model": _base, "version": _version}
_OUTCOME_NOTE: Final = "status: success, error (ours), client_error (the caller's)."


def _source(  # noqa: PLR0913 - the columns of a row
    name: str,
    of: str | tuple[str, ...],
    kind: Kind,
    *,
    labels: Mapping[str, Callable[[Labels], str]] = _NONE,
    only: Mapping[str, frozenset[str]] = _NONE,
    reading: Reading = Reading.SUM,
    coarse: bool = False,
    text_only: bool = False,
    note: str = "",
) -> Alias:
    return Alias(
        name=name,
        set=AliasSet.SOURCE,
        kind=kind,
        of=(of,) if isinstance(of, str) else of,
        labels=labels,
        only=only,
        reading=reading,
        coarse=coarse,
        text_only=text_only,
        note=note,
    )


def _vllm(
    name: str,
    of: str,
    kind: Kind,
    *,
    only: Mapping[str, frozenset[str]] = _NONE,
    note: str = "",
) -> Alias:
    return Alias(
        name=f"vllm:{name}",
        set=AliasSet.VLLM,
        kind=kind,
        of=(of,),
        labels={"model_name": _same("model")},
        only=only,
        note=note,
    )


_VLLM_SMALL: Final = (
    _vllm("num_requests_running", "llm_requests_running", Kind.GAUGE),
    _vllm("num_requests_waiting", "llm_requests_waiting", Kind.GAUGE),
    _vllm("kv_cache_usage_perc", "llm_kv_blocks_used_ratio", Kind.GAUGE, note="From 0 to 1."),
    _vllm("prompt_tokens_total", "llm_prompt_tokens_total", Kind.COUNTER),
    _vllm("generation_tokens_total", "llm_generation_tokens_total", Kind.COUNTER),
    Alias(
        name="vllm:request_success_total",
        set=AliasSet.VLLM,
        kind=Kind.COUNTER,
        of=("llm_choices_finished_total",),
        labels={"model_name": _same("model"), "finished_reason": _same("reason")},
    ),
)
_SOURCE_SMALL: Final = (
    _source("http_requests_in_progress", "forebay_http_requests_in_progress", Kind.GAUGE),
    _source(
        "http_requests_total",
        "forebay_http_requests_total",
        Kind.COUNTER,
        labels={"method": _same("method"), "handler": _endpoint, "status": _same("status")},
    ),
    _source(
        "api_requests_total",
        "llm_requests_total",
        Kind.COUNTER,
        labels={"endpoint": _endpoint, "status": _status, **_MODEL},
        note=_OUTCOME_NOTE,
    ),
    _source("model_memory_usage_bytes", "llm_model_memory_bytes", Kind.GAUGE, labels=_MODEL),
    _source("tokens_generated_total", "llm_generation_tokens_total", Kind.COUNTER, labels=_MODEL),
    _source(
        "model_cache_hits_total",
        "llm_model_requests_total",
        Kind.COUNTER,
        labels=_MODEL,
        only={"result": frozenset({"hit"})},
    ),
    _source(
        "model_cache_misses_total",
        "llm_model_requests_total",
        Kind.COUNTER,
        labels=_MODEL,
        only={"result": frozenset({"miss"})},
    ),
    _source(
        "successful_inferences_total",
        "llm_requests_total",
        Kind.COUNTER,
        labels={**_MODEL, "domain": _domain},
        only={"outcome": frozenset({Outcome.OK.value})},
        note="Nobody names a domain: it is always unknown.",
    ),
    _source(
        "failed_inferences_total",
        "llm_requests_total",
        Kind.COUNTER,
        labels={**_MODEL, "error_type": _same("outcome")},
        only={"outcome": _FAILED},
    ),
    _source("llm_active_requests", "llm_requests_running", Kind.GAUGE),
    _source(
        "llm_requests_in_progress",
        ("llm_requests_running", "llm_requests_waiting"),
        Kind.GAUGE,
        reading=Reading.TOGETHER,
    ),
    _source(
        "llm_generation_tokens",
        "llm_generation_tokens_total",
        Kind.COUNTER,
        text_only=True,
        note="All models together. Only in the text format: OpenMetrics has no second such name.",
    ),
    _source(
        "llm_engine_errors_total",
        "llm_requests_total",
        Kind.COUNTER,
        only={"outcome": frozenset({Outcome.ENGINE_ERROR.value})},
    ),
    _source("llama_requests_total", "llm_requests_total", Kind.COUNTER),
    _source(
        "llama_model_memory_usage_bytes",
        ("forebay_gpu_memory_used_bytes", "llm_model_memory_bytes"),
        Kind.GAUGE,
        note="The GPUs' memory where there are GPUs, else that of the workers.",
    ),
    _source(
        "llama_generation_tokens_per_second",
        "llm_time_per_output_token_seconds",
        Kind.GAUGE,
        reading=Reading.SPEED,
        note="Of a mean request since the start; for now's speed take a rate of the canonical one.",
    ),
)
_VLLM_HISTOGRAMS: Final = (
    _vllm("time_to_first_token_seconds", "llm_time_to_first_token_seconds", Kind.HISTOGRAM),
    _vllm("inter_token_latency_seconds", "llm_inter_token_latency_seconds", Kind.HISTOGRAM),
    _vllm(
        "e2e_request_latency_seconds",
        "llm_request_duration_seconds",
        Kind.HISTOGRAM,
        only={"objective": frozenset({"good"})},
    ),
    _vllm("request_queue_time_seconds", "llm_queue_time_seconds", Kind.HISTOGRAM),
    _vllm("request_prefill_time_seconds", "llm_prefill_time_seconds", Kind.HISTOGRAM),
    _vllm("request_decode_time_seconds", "llm_decode_time_seconds", Kind.HISTOGRAM),
    _vllm("request_inference_time_seconds", "llm_inference_time_seconds", Kind.HISTOGRAM),
)
_SOURCE_HISTOGRAMS: Final = (
    _source(
        "model_load_time_seconds",
        "llm_model_load_time_seconds",
        Kind.HISTOGRAM,
        labels=_MODEL,
        note="Loads that succeeded; llm_model_load_failures_total counts the others.",
    ),
    _source(
        "token_generation_time_seconds",
        "llm_time_per_output_token_seconds",
        Kind.HISTOGRAM,
        labels=_MODEL,
    ),
    _source("llm_generation_latency_seconds", "llm_inference_time_seconds", Kind.HISTOGRAM),
    _source("llama_request_duration_seconds", "llm_request_duration_seconds", Kind.HISTOGRAM),
    _source(
        "http_request_duration_seconds",
        "forebay_http_request_duration_seconds",
        Kind.HISTOGRAM,
        labels={"handler": _endpoint},
        coarse=True,
    ),
    _source(
        "api_response_time_seconds",
        "llm_request_duration_seconds",
        Kind.HISTOGRAM,
        labels={"endpoint": _endpoint, **_MODEL},
        coarse=True,
    ),
    _source(
        "api_request_size_bytes",
        "forebay_http_request_size_bytes",
        Kind.HISTOGRAM,
        labels={"endpoint": _endpoint},
        coarse=True,
    ),
    _source(
        "api_response_size_bytes",
        "forebay_http_response_size_bytes",
        Kind.HISTOGRAM,
        labels={"endpoint": _endpoint},
        coarse=True,
    ),
)

ALIAS_TABLE: Final = (*_VLLM_SMALL, *_SOURCE_SMALL, *_VLLM_HISTOGRAMS, *_SOURCE_HISTOGRAMS)
"""In the order in which they are given room."""

UNMEASURED: Final[dict[str, str]] = {
    "vllm:num_preemptions_total": "Engines do not tell how often they preempt.",
    "vllm:prefix_cache_queries_total": "Engines do not tell what their prefix caches save.",
    "vllm:prefix_cache_hits_total": "Engines do not tell what their prefix caches save.",
    "vllm:iteration_tokens_total": "Engines do not tell the tokens of each step.",
    "vllm:lora_requests_info": "Sequences are not counted by adapter; adapters are models here.",
    "vllm:request_prompt_tokens": "Tokens are counted in all, not by size of request.",
    "vllm:request_generation_tokens": "Tokens are counted in all, not by size of request.",
}
"""Names of vLLM's that are left out, and why."""
