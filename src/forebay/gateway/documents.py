"""The pages for people: `/docs` and the OpenAPI document, which is made from the schemas.

Swagger UI comes from a package on this machine, so `/docs` works without the internet.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import fastapi_offline
import msgspec

from forebay import __version__
from forebay.gateway import (
    admin,
    admin_models,
    answers,
    ops,
    parameters,
    problems,
    receipts,
    responses_answers,
    schemas,
    slo_page,
)
from forebay.gateway.accounts_documents import ORDERS, READS, query
from forebay.gateway.accounts_documents import SCHEMAS as ACCOUNTS_SCHEMAS
from forebay.gateway.embeddings_parameters import EMBEDDINGS
from forebay.gateway.embeddings_schemas import Embedding, EmbeddingList, EmbeddingsCall
from forebay.gateway.exchange import Receive, Scope, Send
from forebay.gateway.native_documents import API_KEY, CALLS, PAGES
from forebay.gateway.native_documents import SCHEMAS as NATIVE_SCHEMAS
from forebay.gateway.native_parameters import NATIVE
from forebay.gateway.page_headers import secured
from forebay.gateway.responses_parameters import RESPONSES
from forebay.gateway.responses_schemas import ResponsesCall
from forebay.serve.lanes import Lanes

_STATIC_PATH: Final = "/docs/static"
_REF: Final = "#/components/schemas/"
_SCHEMAS: Final = (
    schemas.ChatCall,
    schemas.TextCall,
    answers.ChatCompletion,
    answers.ChatChunk,
    answers.TextCompletion,
    ResponsesCall,
    responses_answers.Response,
    responses_answers.ResponseEvent,
    EmbeddingsCall,
    EmbeddingList,
    Embedding,
    receipts.ReceiptBody,
    receipts.ReceiptList,
    answers.Model,
    answers.ModelList,
    *NATIVE_SCHEMAS,
    *ACCOUNTS_SCHEMAS,
    ops.Probe,
    ops.Health,
    admin.LedgerPage,
    admin.ReloadPage,
    slo_page.SloPage,
    admin_models.ModelsPage,
    admin_models.RoutesPage,
    admin_models.Done,
    admin_models.ModelOrder,
    admin_models.VersionOrder,
    admin_models.AdapterOrder,
    admin_models.RouteOrder,
    problems.ErrorBody,
    problems.ProblemBody,
)
_TABLES: Final = {
    "ChatCall": parameters.CHAT,
    "TextCall": parameters.TEXT,
    "ResponsesCall": RESPONSES,
    "EmbeddingsCall": EMBEDDINGS,
    **{call.__name__: table for call, table in NATIVE.values()},
}
_ERRORS: Final = (400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429, 500, 503, 504)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The application behind these pages, and the paths that it serves by GET."""

    paths: frozenset[str]
    app: Any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one of the pages."""
        await self.app(scope, receive, secured(send))


def documents(lanes: Lanes) -> Documents:
    """Make the pages; the examples in them ask for the first model of `lanes`."""
    app = fastapi_offline.FastAPIOffline(
        title="Forebay",
        redoc_url=None,
        static_url=_STATIC_PATH,
        # The page must not ask a validator on the internet about our document.
        swagger_ui_parameters={"validatorUrl": None, "displayRequestDuration": True},
    )
    # FastAPI's own way to another document is to assign this method.
    app.openapi = lambda: openapi([lane.name for lane in lanes])  # type: ignore[method-assign]
    folder = Path(fastapi_offline.__file__).parent / "static"
    files = {f"{_STATIC_PATH}/{file.name}" for file in folder.iterdir()}
    return Documents(paths=frozenset({"/docs", "/openapi.json"} | files), app=app)


def openapi(models: Iterable[str] = ()) -> Json:
    """Return the OpenAPI document; its examples ask for the first of `models`."""
    _, components = msgspec.json.schema_components(_SCHEMAS, ref_template=_REF + "{name}")
    for name, table in _TABLES.items():
        for parameter in table:
            field = components[name]["properties"][parameter.name]
            if parameter.verdict is parameters.Verdict.HONOURED:
                field["description"] = parameter.note
            else:
                field["description"] = f"{parameter.verdict.value.capitalize()}. {parameter.note}"
            field["x-forebay-verdict"] = parameter.verdict.value
    model = next(iter(models), "default")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Forebay", "version": __version__, "description": _ABOUT},
        "paths": {
            "/v1/chat/completions": {"post": _completion("chat", model)},
            "/v1/completions": {"post": _completion("text", model)},
            "/v1/responses": {"post": _completion("responses", model)},
            "/v1/embeddings": {"post": _completion("embeddings", model)},
            "/v1/models": {"get": _read("The models that are served.", "ModelList")},
            "/v1/models/{id}": {
                "get": _read("One model.", "Model")
                | {"parameters": [{"name": "id", "in": "path", "required": True, **_STRING}]}
            },
            "/v1/capabilities": {"get": _read("What each model's API honours, refuses, warns of.")},
            "/v1/streams/{id}": {
                "get": _read("The rest of a keyed stream, as server-sent events.")
                | {
                    "parameters": [
                        {"name": "id", "in": "path", "required": True, **_STRING},
                        _LAST_EVENT_ID,
                    ]
                }
            },
            **_receipts(),
            **{path: {"post": _native(path)} for path in CALLS},
            **{path: {"get": _read(*page)} for path, page in PAGES.items()},
            "/livez": {"get": _read("Does the event loop turn?", "Probe")},
            "/readyz": {"get": _read("Should new requests come here?", "Probe", 503)},
            "/startupz": {"get": _read("Has the first token been made?", "Probe", 503)},
            "/health": {"get": _read("The server at a glance.", "Health", 503)},
            "/metrics": {"get": _read("Every metric, as Prometheus reads them.")},
            admin.LEDGER_PATH: {
                "get": _admin("What came in, how it ended, what is held by whom.", "LedgerPage")
            },
            admin.RELOAD_PATH: {
                "post": _admin("Read the settings again; apply what is live.", "ReloadPage", 400)
            },
            slo_page.SLO_PATH: {
                "get": _admin("Each objective: events, burn rates, what is left.", "SloPage")
            },
            **{path: _ordered(*order) for path, order in _ORDERS.items()},
            **{path: _account(path) for path in {**READS, **ORDERS}},
        },
        "components": {"schemas": components, "securitySchemes": _CREDENTIALS},
        # Nothing where the mode is open; else an API key in either header, or a token.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


_ABOUT: Final = (
    "An LLM serving system with OpenAI's API. Every parameter is honoured, refused with a 400"
    " that names it, or named in the `x-forebay-warning` header."
)
_CREDENTIALS: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_STRING: Final = {"schema": {"type": "string"}}
_CALLS: Final[dict[str, Json]] = {
    "chat": {
        "summary": "Answer a conversation.",
        "call": "ChatCall",
        "answer": "ChatCompletion",
        "chunk": "ChatChunk",
        "example": {
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "max_tokens": 64,
        },
    },
    "text": {
        "summary": "Continue a text.",
        "call": "TextCall",
        "answer": "TextCompletion",
        "chunk": "TextCompletion",
        "example": {"prompt": "The capital of France is", "max_tokens": 16},
    },
    "responses": {
        "summary": "Answer a conversation, as items; nothing is stored.",
        "call": "ResponsesCall",
        "answer": "Response",
        "chunk": "ResponseEvent",
        "streamed": "With stream: true; each event's data, under its type.",
        "example": {"input": "What is the capital of France?", "max_output_tokens": 64},
    },
    "embeddings": {
        "summary": "Make a vector of each input.",
        "call": "EmbeddingsCall",
        "answer": "EmbeddingList",
        "example": {"input": ["The capital of France", "A town in Texas"]},
    },
}
_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": _REF + "ProblemBody"}}}
_REQUEST_ID: Final = {
    "name": "X-Request-ID",
    "in": "header",
    "required": False,
    "description": "1 to 128 of A-Z a-z 0-9 . _ -; it is given back, and stands in the log.",
    **_STRING,
}
_LAST_EVENT_ID: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last `id:` line received; the stream goes on after it.",
    **_STRING,
}


def _header(name: str, description: str) -> Json:
    schema = {"schema": {"type": "string"}}
    return {"name": name, "in": "header", "required": False, "description": description, **schema}


_WISHES: Final = [
    _header("Idempotency-Key", "1 to 255 characters; a repeated request gets the same answer."),
    _header("x-forebay-attach", "false: 409 while the key's first request runs, not its answer."),
    _header("X-Request-Timeout", "Seconds that the client will wait for the answer's end."),
    _header("X-Request-Deadline-Ms", "The same as a moment, in Unix milliseconds."),
    _header("X-Priority", "interactive or batch."),
    _header("Cache-Control", "no-store, no-cache, or max-age=SECONDS."),
    _header("x-forebay-ticket", "The header of an earlier 503, sent back with the retry."),
]
_HEADERS: Final = {
    "x-request-id": {"description": "The request's id.", **_STRING},
    "x-forebay-warning": {"description": "Parameters without effect, by name.", **_STRING},
    "x-forebay-cache": {"description": "hit, miss, or bypass.", **_STRING},
    "x-forebay-stream": {"description": "Where a keyed stream goes on.", **_STRING},
    "idempotent-replayed": {"description": "true: it was not made for this request.", **_STRING},
}
_RETRY_HEADERS: Final = {
    "retry-after": {"description": "Seconds until a retry helps.", **_STRING},
    "retry-after-ms": {"description": "The same in milliseconds.", **_STRING},
    "x-should-retry": {"description": "true or false.", **_STRING},
    "x-forebay-ticket": {
        "description": "Send it back with the retry, to keep the turn.",
        **_STRING,
    },
}


def _completion(dialect: str, model: str) -> Json:
    facts = _CALLS[dialect]
    answered = _content(facts["answer"])
    if "chunk" in facts:
        streamed = facts.get("streamed", "With stream: true; each event's data, then [DONE].")
        schema = {"$ref": _REF + facts["chunk"]}
        answered["text/event-stream"] = {"schema": schema, "description": streamed}
    body = _content(facts["call"])
    body["application/json"]["example"] = {"model": model} | facts["example"]
    return {
        "summary": facts["summary"],
        "parameters": [_REQUEST_ID, *(_WISHES if "chunk" in facts else _WISHES[2:])]
        + ([_LAST_EVENT_ID] if "chunk" in facts else []),
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "The answer.", "headers": _HEADERS, "content": answered},
            **{str(status): _error(status) for status in _ERRORS},
        },
    }


def _native(path: str) -> Json:
    summary, answer, example = CALLS[path]
    body, answered = _content(NATIVE[path][0].__name__), _content(answer)
    body["application/json"]["example"] = example
    if answer == "TokenEvent":
        answered = {"text/event-stream": answered["application/json"]}
    return {
        "summary": summary,
        "parameters": [_REQUEST_ID, API_KEY, *_WISHES],
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "The answer.", "headers": _HEADERS, "content": answered},
            **{str(status): _error(status, _PROBLEM) for status in _ERRORS},
        },
    }


def _receipts() -> Json:
    """Describe what is told of requests that ended."""
    one = {"name": "id", "in": "path", "required": True, **_STRING}
    return {
        receipts.RECEIPTS_PATH: {
            "get": _read("Requests that ended, the newest first.", "ReceiptList")
            | {"parameters": [query(name) for name in receipts.FIELDS]}
        },
        f"{receipts.RECEIPT_PATH}{{id}}": {
            "get": _read("Where a request's time went, and what was decided.", "ReceiptBody")
            | {"parameters": [one]}
        },
    }


def _error(status: int, content: Json | None = None) -> Json:
    problem: Json = {
        "description": HTTPStatus(status).phrase,
        "content": content or _content("ErrorBody"),
    }
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        problem["headers"] = _RETRY_HEADERS
    return problem


def _read(summary: str, schema: str | None = None, failing: int | None = None) -> Json:
    content = _content(schema) if schema else {}
    responses: Json = {"200": {"description": "The answer.", "content": content}}
    if failing is not None:
        responses[str(failing)] = {"description": "Not now; why.", "content": content}
    return {"summary": summary, "responses": responses}


def _admin(summary: str, schema: str, *failing: int) -> Json:
    """Describe a route for the operator: on the server's machine, or by a role."""
    content = _content(schema) if schema else {}
    responses: Json = {"200": {"description": "The answer.", "content": content}}
    for status in (*failing, 401, 403):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": _PROBLEM}
    return {"summary": summary, "responses": responses}


def _account(path: str) -> Json:
    """Describe a route that only the closed mode has."""
    described: Json = {}
    if path in READS:
        summary, answer, fields = READS[path]
        responses = (
            _admin(summary, answer, 400)["responses"] if answer else _read(summary)["responses"]
        )
        described["get"] = {
            "summary": summary,
            "parameters": [query(name) for name in fields],
            "responses": responses,
        }
    if path in ORDERS:
        summary, answer, body = ORDERS[path]
        order = _admin(summary, answer, 400, 404, 409, 429, 503)
        if body:
            order["requestBody"] = {"content": _content(body), "required": True}
        described["post"] = order
    return described


_ORDERS: Final = {
    admin_models.MODELS_PATH: ("Every model on offer, in memory or not.", "ModelsPage", ""),
    admin_models.LOAD_PATH: ("Bring a model into memory.", "Done", "ModelOrder"),
    admin_models.UNLOAD_PATH: ("Let a model leave memory, its work done.", "Done", "ModelOrder"),
    admin_models.ADD_PATH: ("Put a LoRA adapter on offer as a version.", "Done", "AdapterOrder"),
    admin_models.REMOVE_PATH: ("Withdraw a version.", "Done", "VersionOrder"),
    admin_models.ROUTES_PATH: ("Where each route leads, and how it does.", "RoutesPage", ""),
    admin_models.RESTART_PATH: ("Begin a rollout again.", "Done", "RouteOrder"),
}
"""Path -> what it does, its answer's schema, and its body's."""


def _ordered(summary: str, answer: str, body: str) -> Json:
    if not body:
        return {"get": _admin(summary, answer)}
    described = _admin(summary, answer, 400, 404, 503)
    return {"post": described | {"requestBody": {"content": _content(body), "required": True}}}


def _content(schema: str) -> Json:
    return {"application/json": {"schema": {"$ref": _REF + schema}}}
