"""The names of what we tell OpenTelemetry: one table, by one version of its conventions.

`gen_ai.*` is still in development and moves: whoever follows it changes this file.  The names are
those that the GenAI conventions have used since version 1.37, where `gen_ai.provider.name` took
the place of `gen_ai.system`.
"""

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version by which every name below that is not ours is meant."""

UPSTREAM_NAME: Final = "forebay"
"""What we say as `gen_ai.provider.name`: none of those that the conventions list is us."""

OPT_IN_LATEST: Final = "gen_ai_latest_experimental"
"""In OTEL_SEMCONV_STABILITY_OPT_IN: only the newest names, and no older ones beside them."""

# What was asked, and of whom.
OPERATION: Final = "gen_ai.operation.name"
PROVIDED_BY: Final = "gen_ai.provider.name"
SYSTEM: Final = "gen_ai.system"
"""The name of `gen_ai.provider.name` until version 1.36; told beside it unless opted out."""
REQUEST_MODEL: Final = "gen_ai.request.model"
TOKENS_MAX: Final = "gen_ai.request.max_tokens"
TEMPERATURE: Final = "gen_ai.request.temperature"
TOP_P: Final = "gen_ai.request.top_p"
TOP_K: Final = "gen_ai.request.top_k"
SEED: Final = "gen_ai.request.seed"
STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
CHOICES: Final = "gen_ai.request.choice.count"
PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
STREAM: Final = "gen_ai.request.stream"
OUTPUT_TYPE: Final = "gen_ai.output.type"

# What came of it.
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
ERROR_TYPE: Final = "error.type"

# What was said; only where the operator asks for it.
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

# The exchange.
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
HTTP_REQUEST_BYTES: Final = "http.request.body.size"
HTTP_RESPONSE_BYTES: Final = "http.response.body.size"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# Ours: what the conventions have no name for.
REQUEST_ID: Final = "forebay.request.id"
OUTCOME: Final = "forebay.outcome"
ENDPOINT: Final = "forebay.endpoint"
"""The label `route` of our metrics."""
VIA: Final = "forebay.route"
"""The route that led to the model."""
ANSWER_SOURCE: Final = "forebay.answer.source"
PRIORITY: Final = "forebay.priority"
TENANT_HASH: Final = "forebay.tenant.hash"
WORKERS: Final = "forebay.workers"
RETRIES: Final = "forebay.retries"
RETRY_REASONS: Final = "forebay.retry.reasons"
GUARD: Final = "forebay.guard"
"""What the guard found, where it found something."""
LIMIT: Final = "forebay.limit"
"""The limit that refused it."""
KEPT: Final = "forebay.kept"
"""Why this trace was kept: `telemetry/sampling.py`."""
COST: Final = "forebay.cost"
LOOP_WAIT_S: Final = "forebay.loop.wait_s"
QUEUE_S: Final = "forebay.queue_s"
TTFT_S: Final = "forebay.ttft_s"
TPOT_S: Final = "forebay.tpot_s"
OVERHEAD_S: Final = "forebay.overhead_s"
REQUESTS: Final = "forebay.requests"
"""How many requests came by one exchange, where they are several."""

# Metrics.
SERVER_DURATION: Final = "gen_ai.server.request.duration"
SERVER_TTFT: Final = "gen_ai.server.time_to_first_token"
SERVER_TPOT: Final = "gen_ai.server.time_per_output_token"
OBJECTIVE: Final = "forebay.objective"
"""How the availability objective counts what did not succeed."""
OTHER_ERROR: Final = "_OTHER"
"""What `error.type` says where it is known that there was an error, and not which."""
