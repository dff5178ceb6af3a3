"""Other names of settings: the environment variables of the source documents.

An alias counts as the environment, so it is stronger than the file; the setting's own variable
(`FOREBAY_...`) is stronger than its alias.  Such names are short and other programs may use them:
one that is set to nothing (as Compose sets what it does not find) is not set.
"""

from collections.abc import Mapping
from typing import Final

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "ENABLE_BACKPRESSURE": ("admission.forecast",),
    "QUEUE_CAPACITY": ("admission.waiting_max",),
    "MAX_CONCURRENT_REQUESTS": ("admission.running_max",),
    "MAX_CONCURRENT_GENERATIONS": ("admission.running_max",),
    "MAX_BATCH_SIZE": (
        "openvino.sequences_running_max",
        "scripted.running_max",
        "llamacpp.sequences_running_max",
        "transformers.sequences_running_max",
        "onnx.sequences_running_max",
        "vllm.sequences_running_max",
    ),
    "MODEL_NAME": ("model.name",),
    "DEFAULT_MODEL": ("model.name",),
    "CACHE_SIZE": ("residency.loaded_max",),
    "RATE_LIMIT": ("limits.requests",),
    "API_KEY_HEADER": ("access.api_key_header",),
    "MODEL_LOAD_IN_8BIT": ("transformers.precision",),
    "PROMETHEUS_ENABLED": ("metrics.enabled",),
    "METRICS_PATH": ("metrics.path",),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("traces.endpoint",),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("traces.protocol",),
    "OTEL_EXPORTER_OTLP_HEADERS": ("traces.headers",),
    "OTEL_SERVICE_NAME": ("traces.service_name",),
    "OTEL_TRACES_SAMPLER_ARG": ("traces.ratio",),
    "OTEL_SEMCONV_STABILITY_OPT_IN": ("traces.stability",),
}
"""Variable -> the settings that it sets; those of an engine that is not installed it passes over.

`ENABLE_BACKPRESSURE=false` lets whatever fits wait, however long that would take: the queue and
the wait stay bounded.
"""


MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "MODEL_LOAD_IN_8BIT": {"true": "int8", "1": "int8", "false": "auto", "0": "auto"},
}
"""Variable -> what its values mean where the setting has other words for them."""


def aliases_of(key: str) -> tuple[str, ...]:
    """Return the other names of a setting."""
    return tuple(alias for alias, keys in ALIASES.items() if key in keys)
