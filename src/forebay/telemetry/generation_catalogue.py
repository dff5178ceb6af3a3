"""The metrics of whole generations, of loads of models, and of aliases."""

from typing import Final

from forebay.core.request import FinishReason
from forebay.telemetry.metric import Buckets, Kind, Label, Metric

FINISH_REASONS: Final = tuple(reason.value for reason in FinishReason)

INFERENCE_TIME: Final = Metric(
    name="llm_inference_time_seconds",
    kind=Kind.HISTOGRAM,
    help="Engine's receipt to last token: prefill and decode together, measured in the worker.",
    action="Grown: see llm_prefill_time_seconds and llm_decode_time_seconds for which part did.",
    labels=(Label.MODEL,),
    buckets=Buckets(
        bounds=(
            *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28),
            *(2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68),
        ),
        source="those of llm_request_duration_seconds; no engine is done in less than 10 ms",
    ),
)
LOAD_TIME: Final = Metric(
    name="llm_model_load_time_seconds",
    kind=Kind.HISTOGRAM,
    help="Loads of a model that succeeded, to its first token; llm_model_load_seconds: the last.",
    action="Many: models push each other out; see llm_model_loaded.",
    labels=(Label.MODEL,),
    buckets=Buckets(
        bounds=(0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
        source="from a small model in the page cache to tens of gigabytes from a slow disk",
    ),
)
FINISHED: Final = Metric(
    name="llm_choices_finished_total",
    kind=Kind.COUNTER,
    help="Choices of answers that were made here and delivered, by why they stopped.",
    action="Many of length: answers are cut; clients ask for too few tokens, or contexts are full.",
    labels=(Label.MODEL, Label.REASON),
)
ALIASES_LEFT_OUT: Final = Metric(
    name="forebay_alias_names_left_out",
    kind=Kind.GAUGE,
    help="Foreign names that are not served, because the page would exceed metrics.series_max.",
    action="Above 0: name fewer sets in metrics.aliases, raise the bound, or serve fewer models.",
)

GENERATION_METRICS: Final = (INFERENCE_TIME, LOAD_TIME, FINISHED, ALIASES_LEFT_OUT)
