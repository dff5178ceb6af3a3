"""The HTTP edge: one plain ASGI application.

A request is dispatched by an exact look-up of its path before anything else; only the pages
for people go through FastAPI.  Whatever goes wrong becomes an answer here, and a request
that ends before the pipeline has it gets its record here, so that each has exactly one.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import Invalid, Outcome, ServingError
from forebay.core.record import EventLog, Hook, RequestRecord, Timeline
from forebay.core.request import Route
from forebay.gateway import problems
from forebay.gateway.admin import ADMIN_PATHS, Admin
from forebay.gateway.config import GatewayConfig
from forebay.gateway.documents import documents
from forebay.gateway.embeddings import Embeddings
from forebay.gateway.exchange import ClientGone, Exchange, Receive, Scope, Send
from forebay.gateway.native import Native
from forebay.gateway.native_encoding import failure
from forebay.gateway.native_pages import NativePages
from forebay.gateway.openai import MODELS_PATH, STREAMS_PATH, OpenAI
from forebay.gateway.ops import Exposition, Operations, Reply
from forebay.gateway.problems import WrongMethod
from forebay.gateway.requesting import Completes, Requests
from forebay.gateway.responses import Responses
from forebay.gateway.shedding import Shedding
from forebay.serve.cache import CacheConfig
from forebay.serve.lanes import Lanes
from forebay.serve.ledger import Ledger
from forebay.serve.lifecycle import Lifecycle
from forebay.serve.routes import Routes

Handler = Callable[[Exchange], Awaitable[None]]
Page = Callable[[Exchange], Reply]

_ROUTES: Final = {
    "/v1/chat/completions": Route.CHAT_COMPLETIONS,
    "/v1/completions": Route.COMPLETIONS,
    "/v1/responses": Route.RESPONSES,
    "/v1/embeddings": Route.EMBEDDINGS,
    "/generate": Route.GENERATE,
    "/generate_stream": Route.GENERATE_STREAM,
    "/generate_batch": Route.GENERATE_BATCH,
    "/infer": Route.INFER,
}
_SEVERAL: Final = ("/generate", "/generate_batch", "/v1/embeddings")
"""Paths whose bodies say how many requests they are: those are opened once that is known."""
_READS: Final = ("GET", "HEAD")
_TRACE_CHARACTERS_MAX: Final = 8_000
_NO_LIMIT: Final = contextlib.nullcontext()


class Defect(ServingError):
    """Something of ours is broken; the client is told no more than that."""

    outcome = Outcome.INTERNAL_ERROR


@dataclass(kw_only=True)
class Gateway:
    """The server's HTTP application."""

    pipeline: Completes
    lanes: Lanes
    lifecycle: Lifecycle
    metrics: Exposition
    ledger: Ledger
    admin: Admin
    hooks: tuple[Hook, ...]
    log: EventLog
    now: Clock
    config: GatewayConfig = field(default_factory=GatewayConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    routes: Routes | None = None

    def __post_init__(self) -> None:
        """Draw up the routes."""
        self._draw_up()
        self._documents = documents(self.lanes)

    def reconfigure(self, config: GatewayConfig, cache: CacheConfig) -> None:
        """Hold the requests that begin from now on to these."""
        self.config, self.cache = config, cache
        self._draw_up()

    def _draw_up(self) -> None:
        requests = Requests(self.lanes, config=self.config, cache=self.cache, routes=self.routes)
        shedding = Shedding(self.lifecycle, self.config, self.cache)
        openai = OpenAI(
            pipeline=self.pipeline,
            lanes=self.lanes,
            requests=requests,
            shedding=shedding,
            config=self.config,
        )
        native = Native(
            pipeline=self.pipeline,
            requests=requests,
            shedding=shedding,
            ledger=self.ledger,
            hooks=self.hooks,
            config=self.config,
            now=self.now,
        )
        responses = Responses(pipeline=self.pipeline, requests=requests, shedding=shedding)
        embeddings = Embeddings(
            pipeline=self.pipeline,
            lanes=self.lanes,
            requests=requests,
            ledger=self.ledger,
            hooks=self.hooks,
            config=self.config,
            now=self.now,
        )
        ops = Operations(lifecycle=self.lifecycle, lanes=self.lanes, metrics=self.metrics)
        pages = NativePages(self.lifecycle, self.lanes)
        self._completions: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): openai.chat,
            ("POST", "/v1/completions"): openai.text,
            ("POST", "/v1/responses"): responses.respond,
            ("POST", "/v1/embeddings"): embeddings.embed,
            ("POST", "/generate"): native.generate,
            ("POST", "/generate_stream"): native.generate_stream,
            ("POST", "/generate_batch"): native.generate_batch,
            ("POST", "/infer"): native.infer,
        }
        self._pages: dict[str, Page] = {
            "/livez": ops.live,
            "/readyz": ops.ready,
            "/startupz": ops.started,
            "/health": ops.health,
            "/metrics": ops.scrape,
            "/prometheus": ops.scrape,
            "/models": pages.models,
            "/model/info": pages.info,
            "/status": pages.status,
            "/v1/models": openai.models,
            "/v1/capabilities": openai.capabilities,
        }
        self._model_page: Page = openai.model
        self._reopen: Handler = openai.reopen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI call."""
        if scope["type"] != "http":
            await _not_http(scope, receive, send)
            return
        handler = self._completions.get((scope["method"], scope["path"]))
        if handler is None:
            if scope["method"] == "GET" and scope["path"] in self._documents.paths:
                await self._documents(scope, receive, send)
                return
            if scope["path"].startswith(STREAMS_PATH) and scope["method"] == "GET":
                handler = self._reopen
        exchange = Exchange(scope, receive, send, config=self.config, now=self.now)
        if handler is None:
            await self._serve(exchange, self._page_of(exchange.path))
            return
        try:
            if exchange.path not in _SEVERAL:
                self.ledger.opened(exchange.id)
                exchange.counted = True
            await self._serve(exchange, handler)
        finally:
            if exchange.counted:
                self.ledger.closed(exchange.id)

    def _page_of(self, path: str) -> Handler:
        return self.admin.serve if path in ADMIN_PATHS else self._look_up

    async def _serve(self, exchange: Exchange, handler: Handler) -> None:
        """Let a handler answer, or tell what went wrong."""
        try:
            await handler(exchange)
        except ServingError as error:
            await self._fail(exchange, error)
        except asyncio.CancelledError:
            if exchange.piped or exchange.started:
                raise
            # The server stops, and the body has not arrived: nobody else would record it.
            await self._fail(exchange, self.lifecycle.farewell())
        except Exception as error:  # noqa: BLE001 - the HTTP edge: every defect is answered
            self._note(exchange, error)
            await self._fail(exchange, Defect("The server failed; the fault is its own."))

    async def _look_up(self, exchange: Exchange) -> None:
        """Answer one of the pages; they are made without waiting."""
        page = self._pages.get(exchange.path)
        if page is None and exchange.path.startswith(MODELS_PATH):
            page = self._model_page
        if page is None:
            if exchange.path in _ROUTES:
                raise WrongMethod("POST")
            if exchange.path.startswith(STREAMS_PATH):
                raise WrongMethod("GET")
            if exchange.path in self._documents.paths:
                raise WrongMethod("GET")
            raise Invalid("There is nothing at this path; GET /docs lists what is.", status=404)
        if exchange.method not in _READS:
            raise WrongMethod("GET, HEAD")
        reply = page(exchange)
        await exchange.answer(reply.status, reply.body, reply.content_type, headers=reply.headers)

    async def _fail(self, exchange: Exchange, error: ServingError) -> None:
        """Tell the client, in the way that is left, and write the record that is missing."""
        if not exchange.piped:
            self._record(exchange, error)
        if isinstance(error, ClientGone):
            return
        # Only a client that does not read keeps a write waiting.
        patience = asyncio.timeout(self.config.send_s_max) if exchange.clogged else _NO_LIMIT
        try:
            async with patience:
                if exchange.started:
                    await exchange.finish(_frame(exchange, error))
                else:
                    await _tell(exchange, error)
        except (ClientGone, TimeoutError):
            return  # it cannot be told; the record says how the request ended

    def _record(self, exchange: Exchange, error: ServingError) -> None:
        record = RequestRecord(
            id=exchange.id,
            route=self._route(exchange.path),
            model=exchange.model,
            outcome=error.outcome,
            status=error.status,
            timeline=Timeline(received=exchange.received, ended=self.now()),
            request=exchange.request,
            error=error.message,
            via=exchange.via,
        )
        page = not exchange.counted  # pages that answer are no requests; one that fails is
        if page:
            self.ledger.opened(exchange.id)
        for hook in self.hooks:
            hook(record)
        if page:
            self.ledger.closed(exchange.id)

    def _route(self, path: str) -> Route:
        if path.startswith(STREAMS_PATH):
            return Route.STREAMS
        if path in self._pages or path in ADMIN_PATHS:
            return Route.PROBE
        return _ROUTES.get(path, Route.UNMATCHED)

    def _note(self, exchange: Exchange, error: Exception) -> None:
        """Log where a defect showed itself; not its message, which may hold what a client sent."""
        frames = "".join(traceback.format_tb(error.__traceback__))
        self.log(
            "gateway.defect",
            level="error",
            request_id=exchange.id,
            error=type(error).__name__,
            trace=frames[-_TRACE_CHARACTERS_MAX:],
        )


async def _tell(exchange: Exchange, error: ServingError) -> None:
    """Answer with an error, in the shape that is read under this path."""
    if exchange.path.startswith("/v1/"):
        body, kind = problems.openai_body(error), problems.JSON
    else:
        body, kind = problems.problem_body(error, exchange.id), problems.PROBLEM
    await exchange.answer(error.status, body, kind, headers=problems.headers(error))


def _frame(exchange: Exchange, error: ServingError) -> bytes:
    """Return an error as the last event of a stream that has begun."""
    if exchange.failure is not None:
        return exchange.failure(error)
    if exchange.path == "/generate_stream":
        return failure(error, exchange.id)
    return problems.frame(error)


async def _not_http(scope: Scope, receive: Receive, send: Send) -> None:
    """Go along with the server's lifespan; turn WebSockets away."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
