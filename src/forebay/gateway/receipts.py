"""`GET /v1/requests`: where requests' time went, what was decided about them, what they cost.

A caller sees the requests of its own tenant; whoever may administer, or in open mode sits at the
server's own machine, sees all.  A receipt that is another tenant's and one that is not there are
the same to a caller: same answer, same work.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from forebay.accounts.prices import shown_money
from forebay.core.caller import Right
from forebay.core.clock import Clock
from forebay.core.errors import Invalid, Outcome
from forebay.core.request import Source
from forebay.gateway.exchange import Exchange
from forebay.gateway.problems import JSON
from forebay.gateway.querying import query_of, whole
from forebay.gateway.receipts_page import POLICY, page_of
from forebay.gateway.routing import Endpoint
from forebay.telemetry.receipt import Facts, Receipt, read
from forebay.telemetry.receipts import Receipts

RECEIPTS_PATH: Final = "/v1/requests"
RECEIPT_PATH: Final = "/v1/requests/"
HTML: Final = b"text/html; charset=utf-8"

_LISTED: Final = 50
_LISTED_MAX: Final = 500
_MS_MAX: Final = 86_400_000
_SEEN_PER_TURN: Final = 500
"""Receipts that are looked at in one turn of the loop: 0.3 ms."""
FIELDS: Final = ("limit", "outcome", "model", "slower_than_ms")
_NAME_CHARACTERS_MAX: Final = 256
_NONE: Final = (
    "No request of that id is known: it is another tenant's, it still runs, it is too old"
    " (receipts.kept_max), or it never was."
)

Oversees = Callable[[Exchange], bool]
"""Whether a caller may see everybody's."""
Wall = Callable[[], float]


class PartBody(Struct, kw_only=True):
    """One part of the time; they follow one another and sum to the total."""

    part: str
    start_ms: float
    duration_ms: float


class Tokens(Struct, kw_only=True):
    """Exact counts."""

    prompt: int
    completion: int


class FirstToken(Struct, kw_only=True):
    """Time to first token, as it was and as the door expected it."""

    actual_ms: float | None
    forecast_ms: float | None


class Decisions(Struct, kw_only=True):
    """What was decided about a request; what did not come up is left out."""

    cache: str | UnsetType = UNSET
    """`hit`, `miss`, `joined`, `replayed`, or `bypass`."""
    limit: str | UnsetType = UNSET
    """The limit that refused it."""
    reserved_tokens: int | UnsetType = UNSET
    """What was held of its accounts' budgets while it ran."""
    via: str | UnsetType = UNSET
    """The route that chose the model."""
    priority: str | UnsetType = UNSET
    workers: tuple[int, ...] | UnsetType = UNSET
    """The workers that had it, in order; of one model they count from 0."""
    retries: int | UnsetType = UNSET
    failovers: tuple[str, ...] | UnsetType = UNSET
    """Why each worker before the last was lost."""
    guard: str | UnsetType = UNSET
    """What the guard did, and the family of rules."""


class ReceiptBody(Struct, kw_only=True):
    """The receipt of a request that ended."""

    id: str
    object: str = "request"
    began_at: str
    """UTC."""
    route: str
    method: str
    path: str
    model: str
    tenant: str
    user: str | None
    outcome: str
    status: int
    error: str | None
    stream: bool
    total_ms: float
    """From the moment at which its head lay here to the last byte written."""
    ended_in: str
    """The part under way when it ended; `flush`, if it was answered to the end."""
    loop_stall_ms: float
    """How much of the total the event loop did not turn."""
    parts: list[PartBody]
    first_token: FirstToken | None
    tokens: Tokens | None
    cost: str | None
    """Money, exactly, as decimal text; null: nobody counts."""
    body_bytes: int
    answer_bytes: int
    decisions: Decisions
    part_of: str | None
    """The call that it was an item of."""
    items: int | None
    """How many requests this call was; theirs are this id with -0, -1 and so on."""


class ReceiptList(Struct, kw_only=True):
    """Receipts, the newest first."""

    object: str = "list"
    data: list[ReceiptBody]
    has_more: bool


class ReceiptPages:
    """Serves both paths."""

    def __init__(self, receipts: Receipts, oversees: Oversees, *, now: Clock, wall: Wall) -> None:
        """Read `receipts`; `oversees` says who sees all of them."""
        self._receipts = receipts
        self._oversees = oversees
        self._now = now
        self._wall = wall

    def endpoints(self) -> dict[str, Endpoint]:
        """Return what is served by its whole path."""
        return {RECEIPTS_PATH: Endpoint(serve=self.list, methods=("GET",), right=Right.USAGE)}

    def endpoints_below(self) -> dict[str, Endpoint]:
        """Return what is served by the beginning of its path."""
        return {RECEIPT_PATH: Endpoint(serve=self.one, methods=("GET",), right=Right.USAGE)}

    async def one(self, exchange: Exchange) -> None:
        """Answer `GET /v1/requests/{id}`, as JSON or as a page for people."""
        query_of(exchange.query, ())
        for facts in self._receipts.find(exchange.path.removeprefix(RECEIPT_PATH)):
            if self._may_see(exchange, facts):
                break
        else:
            raise Invalid(_NONE, status=404)
        body = self._body(facts)
        if _wants_html(exchange.headers.get(b"accept", b"")):
            await exchange.answer(200, page_of(body), HTML, headers=POLICY)
        else:
            await exchange.answer(200, msgspec.json.encode(body), JSON)

    async def list(self, exchange: Exchange) -> None:
        """Answer `GET /v1/requests`."""
        query = query_of(exchange.query, FIELDS)
        limit = whole(query, "limit", default=_LISTED, most=_LISTED_MAX)
        wanted = _wanted(query)
        found: list[ReceiptBody] = []
        more = False
        for seen, facts in enumerate(self._receipts.latest(), start=1):
            if not seen % _SEEN_PER_TURN:
                await asyncio.sleep(0)
            if self._may_see(exchange, facts) and wanted(facts):
                if more := len(found) == limit:
                    break
                found.append(self._body(facts))
        await exchange.answer(
            200, msgspec.json.encode(ReceiptList(data=found, has_more=more)), JSON
        )

    def _may_see(self, exchange: Exchange, facts: Facts) -> bool:
        return facts.tenant == exchange.caller.tenant or self._oversees(exchange)

    def _body(self, facts: Facts) -> ReceiptBody:
        receipt = read(facts)
        began = self._wall() - (self._now() - facts.began)
        tokens = None
        if facts.prompt_tokens is not None and facts.completion_tokens is not None:
            tokens = Tokens(prompt=facts.prompt_tokens, completion=facts.completion_tokens)
        known = facts.ttft_s is not None or facts.forecast_s is not None
        return ReceiptBody(
            id=facts.id,
            began_at=datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds"),
            route=facts.route,
            method=facts.method,
            path=facts.path,
            model=facts.model,
            tenant=facts.tenant,
            user=facts.user or None,
            outcome=facts.outcome,
            status=facts.status,
            error=facts.error or None,
            stream=facts.stream,
            total_ms=_ms(receipt.total_s),
            ended_in=receipt.ended_in,
            loop_stall_ms=_ms(facts.loop_stall_s),
            parts=list(_parts(receipt)),
            first_token=FirstToken(
                actual_ms=_measured_ms(facts.ttft_s), forecast_ms=_measured_ms(facts.forecast_s)
            )
            if known
            else None,
            tokens=tokens,
            cost=None if facts.cost_nanos is None else shown_money(facts.cost_nanos),
            body_bytes=facts.body_bytes,
            answer_bytes=facts.answer_bytes,
            decisions=_decisions(facts),
            part_of=facts.of or None,
            items=facts.items or None,
        )


def _parts(receipt: Receipt) -> Iterator[PartBody]:
    """Yield the parts in milliseconds; rounded so that they still sum to the total."""
    start = 0.0
    for span in receipt.spans:
        end = _ms(span.start_s + span.duration_s)
        yield PartBody(part=span.part, start_ms=start, duration_ms=round(end - start, 3))
        start = end


def _decisions(facts: Facts) -> Decisions:
    return Decisions(
        cache=_cache(facts) or UNSET,
        limit=facts.limit or UNSET,
        reserved_tokens=UNSET if facts.reserved_tokens is None else facts.reserved_tokens,
        via=facts.via or UNSET,
        priority=UNSET if facts.priority is None else facts.priority.name.lower(),
        workers=facts.workers or UNSET,
        retries=len(facts.failovers) or UNSET,
        failovers=facts.failovers or UNSET,
        guard=facts.guard or UNSET,
    )


def _cache(facts: Facts) -> str:
    if facts.admitted is None and facts.last_token is None:
        return ""  # it did not come to that
    match facts.source:
        case Source.CACHED:
            return "hit"
        case Source.JOINED | Source.REPLAYED:
            return facts.source
        case Source.ENGINE:
            return "miss" if facts.reads_cache else "bypass"
    return ""


def _wanted(query: Mapping[str, str]) -> Callable[[Facts], bool]:
    """Return what tells the receipts that are asked for; raises Invalid."""
    outcome, model = query.get("outcome"), query.get("model")
    if outcome is not None and outcome not in set(Outcome):
        raise Invalid(f"outcome: expected one of {', '.join(Outcome)}.", param="outcome")
    if model is not None and len(model) > _NAME_CHARACTERS_MAX:
        message = f"model: expected at most {_NAME_CHARACTERS_MAX} characters."
        raise Invalid(message, param="model")
    slower_s = 0.0
    if "slower_than_ms" in query:
        slower_s = whole(query, "slower_than_ms", default=1, most=_MS_MAX) / 1_000

    def wanted(facts: Facts) -> bool:
        return (
            (outcome is None or facts.outcome == outcome)
            and (model is None or model in {facts.model, facts.via})
            and facts.ended - facts.began >= slower_s
        )

    return wanted


def _wants_html(accept: bytes) -> bool:
    """Whether a browser asks: it names HTML, and does not name JSON before it."""
    kinds = [each.split(b";")[0].strip().lower() for each in accept.split(b",")]
    if b"text/html" not in kinds:
        return False
    return b"application/json" not in kinds[: kinds.index(b"text/html")]


def _ms(value_s: float) -> float:
    return round(value_s * 1_000, 3)


def _measured_ms(value_s: float | None) -> float | None:
    return None if value_s is None else _ms(value_s)
