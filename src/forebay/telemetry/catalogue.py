"""The metric catalogue: every name at `/metrics`, as data.

`metrics.py` fills it, `docs/metrics.md` is generated from it, dashboards and alerts are tested
against it.  Measures are defined in `core/record.py`.  Labels are closed sets: a value outside
its set becomes `unknown`, and a tenant, key, path or prompt is never a label.
"""

from typing import Final

from forebay.core.record import GAP_BOUNDS_S
from forebay.telemetry.access_catalogue import ACCESS_METRICS
from forebay.telemetry.book_catalogue import BOOK_METRICS
from forebay.telemetry.generation_catalogue import GENERATION_METRICS
from forebay.telemetry.guard_catalogue import GUARD_METRICS
from forebay.telemetry.http_catalogue import HTTP_METRICS
from forebay.telemetry.machine_catalogue import MACHINE_METRICS
from forebay.telemetry.metric import Buckets, Kind, Label, Metric
from forebay.telemetry.service_catalogue import SERVICE_METRICS

UNKNOWN: Final = "unknown"
"""What a label says of a value outside its closed set."""

RESTART_REASONS: Final = ("exited", "stalled", "garbage", "start_failed", UNKNOWN)
"""Why a supervisor replaced its worker."""

HELD_KINDS: Final = (
    *("place", "waiting", "engine_request", "flight", "reader", "lease"),
    *("permit", "tokens", "reservation", UNKNOWN),
)
"""What can be held; `/admin/ledger` says by whom."""

WASTED_PHASES: Final = ("prefill", "decode", UNKNOWN)
"""How far an answer was that nobody wanted any more; one that waited has cost nothing."""

CACHE_RESULTS: Final = ("hit", "miss", "bypass")
PROMISE_RESULTS: Final = ("made", "redeemed", "missed")
RETRY_REASONS: Final = ("worker_lost",)
RATE_LIMITS: Final = (
    *(("key", "requests"), ("key", "tokens"), ("key", "concurrent")),
    *(("user", "requests"), ("user", "tokens"), ("user", "concurrent")),
    *(("tenant", "requests"), ("tenant", "tokens"), ("tenant", "concurrent")),
    ("address", "requests"),
)
"""Level and unit of each limit that callers can be over."""


_FIRST_TOKEN: Final = Buckets(
    bounds=(
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5),
        *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    ),
    source="OpenTelemetry's gen_ai.server.time_to_first_token, and 20, 40, 80 s for overload",
)
_DURATION: Final = Buckets(
    bounds=(
        *(0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
        *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68),
    ),
    source="OpenTelemetry's gen_ai.server.request.duration, widened at both ends",
)
_GAP: Final = Buckets(
    bounds=GAP_BOUNDS_S,
    source="core/record.py: 1 ms (small models in batches) to 5 s (a stall)",
)
_FREEING: Final = Buckets(
    bounds=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    source="the goal: p99 of 0.25 s; 1 ms is one step of a small model, 2.5 s a long prefill",
)
_FORECAST_ERROR: Final = Buckets(
    bounds=(
        *(-10.0, -5.0, -2.0, -1.0, -0.5, -0.2, -0.1, -0.05, 0.0),
        *(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    ),
    source="the classes' objectives, 2 and 60 s: a tenth of a second is good, two are a refusal",
)
_OVERHEAD: Final = Buckets(
    bounds=(
        *(0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.005),
        *(0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
    ),
    source="the goals: p50 of 0.5 ms one at a time and 1.5 ms at ten",
)

REQUESTS: Final = Metric(
    name="llm_requests_total",
    kind=Kind.COUNTER,
    help="Requests that ended, by outcome; docs/errors.md explains each outcome.",
    action="Rising overloaded, expired: add capacity. engine_error, internal_error: read the log.",
    labels=(Label.ROUTE, Label.MODEL, Label.OUTCOME),
)
DURATION: Final = Metric(
    name="llm_request_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Receipt to ending of every request, by how the availability objective counts it.",
    action="Compare queue, prefill and decode time to see which part grew.",
    labels=(Label.MODEL, Label.OBJECTIVE),
    buckets=_DURATION,
)
TTFT: Final = Metric(
    name="llm_time_to_first_token_seconds",
    kind=Kind.HISTOGRAM,
    help="Receipt to first token, with queue, tokenizing and prefill; none without a token.",
    action="With queue time: too few places. With prefill time: longer prompts or a busy machine.",
    labels=(Label.MODEL,),
    buckets=_FIRST_TOKEN,
)
TPOT: Final = Metric(
    name="llm_time_per_output_token_seconds",
    kind=Kind.HISTOGRAM,
    help="Mean time per output token after the first, per request of two tokens or more.",
    action="Grows with the batch; lower the limit if readers need more speed each.",
    labels=(Label.MODEL,),
    buckets=_GAP,
)
ITL: Final = Metric(
    name="llm_inter_token_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="Each gap between consecutive deltas of a stream; a delta of k tokens is one gap.",
    action="A long tail beside a steady median: prefills or another process interrupt decoding.",
    labels=(Label.MODEL,),
    buckets=_GAP,
)
QUEUE_TIME: Final = Metric(
    name="llm_queue_time_seconds",
    kind=Kind.HISTOGRAM,
    help="Receipt to a place at the door; requests that never got one are not in it.",
    action="Above a second for minutes: demand exceeds capacity; add capacity or shed earlier.",
    labels=(Label.MODEL,),
    buckets=_DURATION,
)
PREFILL_TIME: Final = Metric(
    name="llm_prefill_time_seconds",
    kind=Kind.HISTOGRAM,
    help="Engine's receipt to first token, measured in the worker.",
    action="Check prompt lengths and llm_engine_sequences_waiting.",
    labels=(Label.MODEL,),
    buckets=_FIRST_TOKEN,
)
DECODE_TIME: Final = Metric(
    name="llm_decode_time_seconds",
    kind=Kind.HISTOGRAM,
    help="First token to last, measured in the worker.",
    action="Longer completions, or a larger batch: compare llm_time_per_output_token_seconds.",
    labels=(Label.MODEL,),
    buckets=_DURATION,
)
OVERHEAD: Final = Metric(
    name="llm_gateway_overhead_seconds",
    kind=Kind.HISTOGRAM,
    help="What was neither queue nor engine: parsing, the worker's socket, encoding, the client.",
    action="Rising: the gateway lacks CPU, or clients read slowly; see llm_event_loop_lag_seconds.",
    labels=(Label.MODEL,),
    buckets=_OVERHEAD,
)
PROMPT_TOKENS: Final = Metric(
    name="llm_prompt_tokens_total",
    kind=Kind.COUNTER,
    help="Prompt tokens of requests that finished.",
    action="Its rate is the prefill demand.",
    labels=(Label.MODEL,),
)
GENERATION_TOKENS: Final = Metric(
    name="llm_generation_tokens_total",
    kind=Kind.COUNTER,
    help="Completion tokens of requests that finished.",
    action="Its rate is the throughput; flat while requests run means a stall.",
    labels=(Label.MODEL,),
)
RESTARTS: Final = Metric(
    name="llm_worker_restarts_total",
    kind=Kind.COUNTER,
    help="Workers replaced, by reason.",
    action="Any: read the worker.* log lines. exited: memory? stalled: the machine or the engine.",
    labels=(Label.MODEL, Label.REASON),
)
RUNNING: Final = Metric(
    name="llm_requests_running",
    kind=Kind.GAUGE,
    help="Requests that hold a place now.",
    action="At the limit for long: the model is saturated.",
    labels=(Label.MODEL,),
)
WAITING: Final = Metric(
    name="llm_requests_waiting",
    kind=Kind.GAUGE,
    help="Requests that wait for a place now.",
    action="Above zero for minutes: scale out on this.",
    labels=(Label.MODEL,),
)
SATURATION: Final = Metric(
    name="llm_saturation_ratio",
    kind=Kind.GAUGE,
    help="Running and waiting requests divided by the places there are; above 1 some wait.",
    action="Keep it below 0.8 on average.",
    labels=(Label.MODEL,),
)
KV_USED: Final = Metric(
    name="llm_kv_blocks_used_ratio",
    kind=Kind.GAUGE,
    help="Share of the KV cache's blocks that is in use, as the engine counts it.",
    action="Near 1: sequences are preempted; give more KV memory or lower the limit.",
    labels=(Label.MODEL,),
)
ENGINE_RUNNING: Final = Metric(
    name="llm_engine_sequences_running",
    kind=Kind.GAUGE,
    help="Sequences in the engine's batch, as the engine counts them.",
    action="Above zero with llm_requests_running at zero: something was not freed; report it.",
    labels=(Label.MODEL,),
)
ENGINE_WAITING: Final = Metric(
    name="llm_engine_sequences_waiting",
    kind=Kind.GAUGE,
    help="Sequences that wait inside the engine, as the engine counts them.",
    action="Above zero for long: the door admits more than the engine runs; lower the limit.",
    labels=(Label.MODEL,),
)
LOOP_LAG: Final = Metric(
    name="llm_event_loop_lag_seconds",
    kind=Kind.GAUGE,
    help="The latest that the gateway's event loop woke since the last scrape.",
    action="Above 0.05: the gateway lacks CPU, or something computes in its loop.",
)
LINES_DROPPED: Final = Metric(
    name="llm_log_lines_dropped_total",
    kind=Kind.COUNTER,
    help="Log lines dropped because the reader of the log was too slow or gone.",
    action="Any: the log has holes; look at where it is written to.",
)
BUILD: Final = Metric(
    name="forebay_build_info",
    kind=Kind.GAUGE,
    help="Always 1; the label says which version runs.",
    action="Several values at once: a rollout is under way.",
    labels=(Label.VERSION,),
)

FORECAST_ERROR: Final = Metric(
    name="llm_ttft_forecast_error_seconds",
    kind=Kind.HISTOGRAM,
    help="Time to first token as it was, less what the door had expected; above 0: too hopeful.",
    action="Far from 0 for long: refusals are wrong; the load changes faster than it is learned.",
    labels=(Label.MODEL,),
    buckets=_FORECAST_ERROR,
)
CANCEL_PROPAGATION: Final = Metric(
    name="llm_cancel_propagation_seconds",
    kind=Kind.HISTOGRAM,
    help="From the abort of a request whose client left to the engine holding nothing of it.",
    action="A long tail: steps or prefills are long; lower the engine's batched tokens.",
    labels=(Label.MODEL,),
    buckets=_FREEING,
)
WASTED_TOKENS: Final = Metric(
    name="llm_wasted_tokens_total",
    kind=Kind.COUNTER,
    help="Tokens computed for requests that were aborted: of prompts, or of answers.",
    action="Rising: clients give up; compare llm_time_to_first_token_seconds with their patience.",
    labels=(Label.MODEL, Label.PHASE),
)
ANSWERS: Final = Metric(
    name="llm_answers_total",
    kind=Kind.COUNTER,
    help="Answers delivered, by where they came from; only those of engine were made anew.",
    action="Many replayed: clients retry what they have; look at their timeouts.",
    labels=(Label.MODEL, Label.SOURCE),
)
FLIGHTS: Final = Metric(
    name="llm_flights_total",
    kind=Kind.COUNTER,
    help="Generations begun that several requests may read: keyed, or repeatable.",
    action="Compare with llm_answers_total: the difference was not computed twice.",
)
CACHE_REQUESTS: Final = Metric(
    name="llm_cache_requests_total",
    kind=Kind.COUNTER,
    help="Requests that the cache of answers might have served, by what it said.",
    action="Few hits of many: it costs memory and saves little; make it smaller.",
    labels=(Label.RESULT,),
)
STORE_DEGRADED: Final = Metric(
    name="llm_store_degraded",
    kind=Kind.GAUGE,
    help="1 while the shared store does not answer and keys are known to this process only.",
    action="1: look at the store; exactly-once holds within each replica meanwhile.",
)
RETRIES: Final = Metric(
    name="llm_retries_total",
    kind=Kind.COUNTER,
    help="Requests that went on with another worker, by why the first was given up.",
    action="Rising: see llm_worker_restarts_total; the retry budget bounds it.",
    labels=(Label.MODEL, Label.REASON),
)
POISONED: Final = Metric(
    name="llm_poisoned_requests_total",
    kind=Kind.COUNTER,
    help="Requests found to end workers; the same is refused for a while.",
    action="Any: find the request in the log and report it; it ends the engine.",
    labels=(Label.MODEL,),
)
PROMISES: Final = Metric(
    name="llm_promises_total",
    kind=Kind.COUNTER,
    help="Moments promised to refused requests: made, redeemed in time, missed.",
    action="Mostly missed: clients do not heed Retry-After, or come back elsewhere.",
    labels=(Label.MODEL, Label.RESULT),
)
IMBALANCE: Final = Metric(
    name="llm_ledger_imbalance",
    kind=Kind.GAUGE,
    help="Requests received, less those that ended and those in flight; 0, or there is a defect.",
    action="Not 0: a request was lost or counted twice; report it with /admin/ledger.",
)
HELD: Final = Metric(
    name="llm_ledger_held",
    kind=Kind.GAUGE,
    help="What is held now, by kind; /admin/ledger says by whom.",
    action="Above 0 at rest for longer than replay.linger_s: something leaks; report it.",
    labels=(Label.KIND,),
)

MODEL_LOADED: Final = Metric(
    name="llm_model_loaded",
    kind=Kind.GAUGE,
    help="1 while a model is in memory; one that is not is loaded when it is asked for.",
    action="Back and forth: more models are asked for than residency.loaded_max or memory holds.",
    labels=(Label.MODEL,),
)
MODEL_MEMORY: Final = Metric(
    name="llm_model_memory_bytes",
    kind=Kind.GAUGE,
    help="Memory that the workers of a model have in RAM, its KV cache included.",
    action="Near the machine's: give it less KV cache, or serve fewer models.",
    labels=(Label.MODEL,),
)
MODEL_LOAD_TIME: Final = Metric(
    name="llm_model_load_seconds",
    kind=Kind.GAUGE,
    help="How long the last load of a model took, to its first token; 0: never loaded.",
    action="Grown: the disk or the machine is busier than it was.",
    labels=(Label.MODEL,),
)
MODEL_ASKED: Final = Metric(
    name="llm_model_requests_total",
    kind=Kind.COUNTER,
    help="Requests for a model that found it in memory (hit), or had to wait for it (miss).",
    action="Many misses: pin the model, or let more be in memory.",
    labels=(Label.MODEL, Label.RESULT),
)
MODEL_LOAD_FAILURES: Final = Metric(
    name="llm_model_load_failures_total",
    kind=Kind.COUNTER,
    help="Loads of a model that failed; it is left alone for residency.failed_s after each.",
    action="Any: the log's model.failed says why, with the fix.",
    labels=(Label.MODEL,),
)
ROUTE_SHARE: Final = Metric(
    name="llm_route_share_ratio",
    kind=Kind.GAUGE,
    help="What part of the callers of a route comes to a model.",
    action="A candidate's at 0: it was rolled back; the log's route.rolled_back says why.",
    labels=(Label.ROUTE_NAME, Label.MODEL),
)
SHADOWS_DROPPED: Final = Metric(
    name="llm_shadow_dropped_total",
    kind=Kind.COUNTER,
    help="Copies for a shadow model that were not made, because enough were under way.",
    action="Rising: the shadow sees less than it should; raise shadow_running_max or lower share.",
)
RATE_LIMITED: Final = Metric(
    name="llm_rate_limited_total",
    kind=Kind.COUNTER,
    help="Refusals because a caller was over a limit of its own, by whose and of what.",
    action="Rising: the log of requests says who asks; raise the limit, or talk to the caller.",
    labels=(Label.LEVEL, Label.UNIT),
)
LIMITS_DEGRADED: Final = Metric(
    name="llm_limits_degraded",
    kind=Kind.GAUGE,
    help="1 while this server allows its part of every rate, because Redis is away.",
    action="At 1: see llm_store_degraded; limits hold for this server, not for all together.",
)

CATALOGUE: Final = (
    *(REQUESTS, DURATION, TTFT, TPOT, ITL, QUEUE_TIME, PREFILL_TIME, DECODE_TIME, OVERHEAD),
    *(PROMPT_TOKENS, GENERATION_TOKENS, RESTARTS),
    *(RUNNING, WAITING, SATURATION, KV_USED, ENGINE_RUNNING, ENGINE_WAITING),
    *(FORECAST_ERROR, CANCEL_PROPAGATION, WASTED_TOKENS, ANSWERS, FLIGHTS, CACHE_REQUESTS),
    *(STORE_DEGRADED, RETRIES, POISONED, PROMISES, IMBALANCE, HELD),
    *(MODEL_LOADED, MODEL_MEMORY, MODEL_LOAD_TIME, MODEL_ASKED, MODEL_LOAD_FAILURES),
    *(ROUTE_SHARE, SHADOWS_DROPPED, RATE_LIMITED, LIMITS_DEGRADED),
    *(*ACCESS_METRICS, *BOOK_METRICS, *GUARD_METRICS, *GENERATION_METRICS),
    *(*HTTP_METRICS, *SERVICE_METRICS, *MACHINE_METRICS),
    *(LOOP_LAG, LINES_DROPPED, BUILD),
)
"""Everything at `/metrics` but `process_*`, which prometheus_client adds."""
