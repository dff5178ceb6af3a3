"""The HTTP edge: one plain ASGI application.

A request is dispatched by an exact look-up of its path before anything else; only the pages
for people go through FastAPI.  Whatever goes wrong becomes an answer here, and a request
that ends before the pipeline has it gets its record here, so that each has exactly one.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from forebay.core.caller import Right
from forebay.core.clock import Clock
from forebay.core.errors import Outcome, ServingError
from forebay.core.record import EventLog, Hook, RequestRecord, Timeline
from forebay.core.request import Route
from forebay.core.visit import VisitHook
from forebay.gateway import problems
from forebay.gateway.access import Access
from forebay.gateway.admin import ADMIN_ACTIONS, ADMIN_PATHS, Admin
from forebay.gateway.config import GatewayConfig
from forebay.gateway.cors import PREFLIGHT, Cors
from forebay.gateway.documents import documents
from forebay.gateway.embeddings import Embeddings
from forebay.gateway.exchange import ClientGone, Exchange, Receive, Scope, Send
from forebay.gateway.native import Native
from forebay.gateway.native_encoding import failure
from forebay.gateway.native_pages import NativePages
from forebay.gateway.openai import MODELS_PATH, STREAMS_PATH, OpenAI
from forebay.gateway.ops import Exposition, Operations, Scrapes
from forebay.gateway.requesting import Completes, Requests
from forebay.gateway.responses import Responses
from forebay.gateway.routing import NOTHING, READS, Endpoint, PathTaken, Table, page, posted
from forebay.gateway.shedding import Shedding
from forebay.serve.cache import CacheConfig
from forebay.serve.lanes import Lanes
from forebay.serve.ledger import Ledger
from forebay.serve.lifecycle import Lifecycle
from forebay.serve.limits import OverRate, Probe
from forebay.serve.routes import Routes
from forebay.telemetry.trace_context import Contexts

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
    over: tuple[VisitHook, ...] = ()
    """Who reads each exchange once it is over."""
    contexts: Contexts = field(default_factory=Contexts)
    """What gives each exchange its place in a trace."""
    config: GatewayConfig = field(default_factory=GatewayConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    routes: Routes | None = None
    cors: Cors = field(default_factory=Cors)
    access: Access = field(default_factory=Access)
    extra: Mapping[str, Endpoint] = field(default_factory=dict)
    """Routes of other parts, by path."""
    extra_below: Mapping[str, Endpoint] = field(default_factory=dict)
    """Routes of other parts, by the beginning of a path."""

    metrics_paths: tuple[str, ...] = ("/metrics", "/prometheus")
    """Where metrics are served; PathTaken is raised of a path that is something else's."""

    in_progress: int = field(default=0, init=False)
    """Exchanges that are not over."""

    def __post_init__(self) -> None:
        """Draw up the routes."""
        pages = documents(self.lanes)
        document = Endpoint(
            serve=lambda exchange: exchange.relay(pages), methods=("GET",), right=Right.READ
        )
        self._documents = dict.fromkeys(pages.paths, document)
        self._draw_up()

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
        reopen = Endpoint(
            serve=openai.reopen,
            methods=("GET",),
            right=Right.INFER,
            label=Route.STREAMS,
            opens=True,
        )
        exact = {
            "/v1/chat/completions": posted(openai.chat, Route.CHAT_COMPLETIONS),
            "/v1/completions": posted(openai.text, Route.COMPLETIONS),
            "/v1/models": page(openai.models, Right.READ),
            "/v1/capabilities": page(openai.capabilities, Right.READ),
            **self._other_calls(requests, shedding),
            **self._pages(),
            **self._orders(),
            **self._documents,
            **self.extra,
        }
        below = {
            MODELS_PATH: page(openai.model, Right.READ),
            STREAMS_PATH: reopen,
            **self.extra_below,
        }
        others = Table(exact=exact, below=below)
        if taken := [path for path in self.metrics_paths if others.find(path) is not NOTHING]:
            raise PathTaken(taken[0])
        scrape = Endpoint(serve=Scrapes(self.metrics).scrape, methods=READS, right=Right.METRICS)
        self.table = Table(
            exact={**exact, **dict.fromkeys(self.metrics_paths, scrape)}, below=below
        )

    def _other_calls(self, requests: Requests, shedding: Shedding) -> dict[str, Endpoint]:
        """Return the routes by which tokens and vectors are made, but OpenAI's oldest."""
        native = Native(
            pipeline=self.pipeline,
            requests=requests,
            shedding=shedding,
            ledger=self.ledger,
            hooks=self.hooks,
            config=self.config,
            now=self.now,
            charge=self.access.charge,
            at_once=self.access.at_once,
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
            charge=self.access.charge,
            at_once=self.access.at_once,
        )
        return {
            "/v1/responses": posted(responses.respond, Route.RESPONSES),
            # Of these the body says how many requests they are: they are opened by who reads it.
            "/v1/embeddings": posted(embeddings.embed, Route.EMBEDDINGS, opens=False),
            "/generate": posted(native.generate, Route.GENERATE, opens=False),
            "/generate_batch": posted(native.generate_batch, Route.GENERATE_BATCH, opens=False),
            "/generate_stream": posted(native.generate_stream, Route.GENERATE_STREAM),
            "/infer": posted(native.infer, Route.INFER),
        }

    def _pages(self) -> dict[str, Endpoint]:
        """Return what operators and orchestrators ask."""
        ops = Operations(lifecycle=self.lifecycle, lanes=self.lanes)
        pages = NativePages(self.lifecycle, self.lanes)
        return {
            "/livez": page(ops.live, None, Probe.PROBES),
            "/readyz": page(ops.ready, None, Probe.PROBES),
            "/startupz": page(ops.started, None, Probe.PROBES),
            "/health": page(ops.health, None, Probe.HEALTH),
            "/models": page(pages.models, Right.READ),
            "/model/info": page(pages.info, Right.READ),
            "/status": page(pages.status, Right.READ),
        }

    def _orders(self) -> dict[str, Endpoint]:
        """Return what the operator orders."""
        return {
            path: Endpoint(
                serve=self.admin.serve,
                methods=(method,),
                right=Right.OPERATE,
                action=ADMIN_ACTIONS.get(path),
            )
            for path, method in ADMIN_PATHS.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI call."""
        if scope["type"] != "http":
            await _not_http(scope, receive, send)
            return
        endpoint = self.table.find(scope["path"])
        exchange = Exchange(scope, receive, send, config=self.config, now=self.now)
        exchange.visit.trace = self.contexts.of(exchange.headers, endpoint.label)
        self.in_progress += 1
        try:
            if endpoint.opens and exchange.method in endpoint.methods:
                self.ledger.opened(exchange.id)
                exchange.counted = True
            await self._serve(exchange, endpoint)
        finally:
            self.in_progress -= 1
            if exchange.counted:
                self.ledger.closed(exchange.id)
            visit = exchange.visit
            visit.route, visit.ended = endpoint.label, self.now()
            for read in self.over:
                read(visit)

    async def _serve(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Let a route answer whoever may ask it, or tell what went wrong."""
        try:
            if exchange.method == PREFLIGHT and await self._preflight(exchange, endpoint):
                return
            if b"origin" in exchange.headers and not (self.access.closed or endpoint.right is None):
                self.cors.check(exchange.headers[b"origin"])
            await self.access.admit(exchange, endpoint)
            exchange.visit.let_in = self.now()
            endpoint.check(exchange.method)
            await endpoint.serve(exchange)
            if endpoint.action is not None:
                self.access.did(exchange, endpoint.action)
        except ServingError as error:
            await self._fail(exchange, error, endpoint)
        except asyncio.CancelledError:
            if exchange.piped or exchange.started:
                raise
            # The server stops, and the body has not arrived: nobody else would record it.
            await self._fail(exchange, self.lifecycle.farewell(), endpoint)
        except Exception as error:  # noqa: BLE001 - the HTTP edge: every defect is answered
            self._note(exchange, error)
            await self._fail(exchange, Defect("The server failed; the fault is its own."), endpoint)

    async def _preflight(self, exchange: Exchange, endpoint: Endpoint) -> bool:
        """Tell a browser whether a page of another origin may call; it asks without credentials."""
        told = self.cors.preflight(exchange.headers, endpoint.methods)
        if told is None:
            return False
        await exchange.start(204, told)
        await exchange.finish(b"")
        return True

    async def _fail(self, exchange: Exchange, error: ServingError, endpoint: Endpoint) -> None:
        """Tell the client, in the way that is left, and write the record that is missing."""
        if not exchange.piped:
            self._record(exchange, error, endpoint.label)
        self.access.failed(exchange, error, endpoint)
        if isinstance(error, OverRate):
            exchange.standings += (error.standing,)
            exchange.visit.limit = error.limit
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

    def _record(self, exchange: Exchange, error: ServingError, route: Route) -> None:
        record = RequestRecord(
            id=exchange.id,
            route=route,
            model=exchange.model,
            outcome=error.outcome,
            status=error.status,
            timeline=Timeline(received=exchange.received, ended=self.now()),
            request=exchange.request,
            error=error.message,
            via=exchange.via,
            caller=exchange.caller,
            visit=exchange.visit,
        )
        page = not exchange.counted  # pages that answer are no requests; one that fails is
        if page:
            self.ledger.opened(exchange.id)
        for hook in self.hooks:
            hook(record)
        if page:
            self.ledger.closed(exchange.id)

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
