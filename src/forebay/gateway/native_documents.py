"""What the OpenAPI document says of `/generate` and its kin."""

from typing import Any, Final

from forebay.gateway import native_answers, native_schemas

Json = dict[str, Any]

SCHEMAS: Final = (
    native_schemas.GenerateCall,
    native_schemas.StreamCall,
    native_schemas.BatchCall,
    native_schemas.InferCall,
    native_answers.Generated,
    native_answers.TokenEvent,
    native_answers.BatchAnswer,
    native_answers.BatchResult,
    native_answers.BatchFailure,
    native_answers.Inferred,
    native_answers.BaseModels,
    native_answers.ModelInfo,
    native_answers.StatusPage,
)

CALLS: Final[dict[str, tuple[str, str, Json]]] = {
    "/generate": (
        "Answer one prompt, or each of several (`prompts`), as `/generate_batch` does.",
        "Generated",
        {"prompt": "What is machine learning?", "max_new_tokens": 20},
    ),
    "/generate_stream": (
        "Answer a prompt, an event per token.",
        "TokenEvent",
        {"prompt": "What is machine learning?", "max_tokens": 100, "temperature": 0.7},
    ),
    "/generate_batch": (
        "Answer many prompts: one entry each, in order.",
        "BatchAnswer",
        {"prompts": ["What is machine learning?", "What is a forebay?"], "max_tokens": 50},
    ),
    "/infer": (
        "Answer a prompt by a version of a model.",
        "Inferred",
        {"prompt": "What is the capital of France?", "max_new_tokens": 32},
    ),
}
"""Path -> what it does, its answer's schema, and a body that works."""

PAGES: Final = {
    "/models": ("The models and their versions.", "BaseModels"),
    "/model/info": ("The model that answers by default.", "ModelInfo"),
    "/status": ("The service, and what is in memory.", "StatusPage"),
}
"""Path -> what it tells, and its schema."""

API_KEY: Final = {
    "name": "X-API-Key",
    "in": "header",
    "required": False,
    "description": "A credential, where there is no Authorization.",
    "schema": {"type": "string"},
}
