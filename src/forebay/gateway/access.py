"""Who asks, and may they: decided on the route that was found, never on the path's text.

Each route declares its right (`gateway/routing.py`); what declares none is open to all.  There are
two modes.  In *open* mode nobody is asked who they are: whoever reaches the server may use it, and
its operator is whoever sits at this machine: the server listens on loopback, the request names it
so, and nothing in it says that it was passed on or that a web page sent it.  In *closed* mode
every caller shows a key or a token, and everything else is refused before it is read.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from forebay.accounts.audit_event import Action, AuditEvent
from forebay.core.caller import NOBODY, Caller, Right
from forebay.core.errors import Forbidden, Outcome, ServingError, Unauthenticated
from forebay.gateway.client_address import TrustedProxies, client_address
from forebay.gateway.exchange import Exchange
from forebay.gateway.routing import Endpoint
from forebay.policy.addresses import is_loopback
from forebay.serve.allowance import unlimited
from forebay.serve.credentials import AccessConfig, Credentials
from forebay.serve.limits import Limits, Probe

Note = Callable[[AuditEvent], None]
"""Takes one line of the audit log; never blocks, never raises."""

_PASSED_ON: Final = frozenset(
    {
        b"cf-connecting-ip",
        b"forwarded",
        b"origin",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-envoy-external-address",
        b"x-forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
    }
)
"""Headers of a request that a proxy passed on, or that a web page sent."""
_OWN_SITES: Final = (b"none", b"same-origin")
"""`Sec-Fetch-Site` of what somebody typed into a browser, and of our own pages."""
_HOST: Final = re.compile(rb"(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::[0-9]*)?", re.IGNORECASE)
_SCHEME: Final = b"bearer "
_BLANKS: Final = b" \t"
_GUESTS: Final = frozenset({Right.INFER, Right.READ, Right.USAGE, Right.METRICS})
_COUNTED: Final = frozenset({Right.INFER, Right.READ, Right.USAGE})
"""Rights whose use is counted; operators may always act."""
_DENIALS: Final = (Outcome.UNAUTHENTICATED, Outcome.FORBIDDEN)
_NO_PROXIES: Final = TrustedProxies()
_STRANGERS_MAX: Final = 1_000
CREDENTIAL_BYTES_MAX: Final = 8_192
"""Longest credential that is looked at; keys have 52 characters, tokens some hundreds."""

_LOCAL_ONLY: Final = (
    "This route answers only requests from the server's own machine that no proxy passed on."
    " For others, serve with access.mode=closed and give their user a role."
)
_TOO_LONG: Final = f"The credential is longer than {CREDENTIAL_BYTES_MAX} bytes."
_TWO: Final = "Two credentials were sent, and they differ. Send one of them."


class Access:
    """Lets callers in."""

    def __init__(
        self,
        config: AccessConfig | None = None,
        *,
        local: bool = False,
        credentials: Credentials | None = None,
        limits: Limits | None = None,
        proxies: TrustedProxies = _NO_PROXIES,
    ) -> None:
        """Believe `credentials`; without them the mode is open.  `local`: loopback only.

        Callers are held to `limits`; of an address, the word of `proxies` is taken.
        """
        config = config or AccessConfig()
        self.config = config
        self._local = local
        self._credentials = credentials
        self._limits = limits or unlimited().limits
        self._proxies = proxies
        self.note: Note | None = None
        """Writes the audit log, where there is one; set before anybody is let in."""
        self._header = config.api_key_header.lower().encode("ascii")
        name = config.api_key_header
        self._missing = f"Send an API key: 'Authorization: Bearer <key>' or '{name}: <key>'."
        # The whole mutable state: callers of the open mode, by what they show; the latest few.
        self._strangers: OrderedDict[bytes, Caller] = OrderedDict()

    def reconfigure(self, config: AccessConfig) -> None:
        """Believe what was looked up for as long as `config` says."""
        self.config = config
        if self._credentials is not None:
            self._credentials.reconfigure(config)

    @property
    def closed(self) -> bool:
        """Whether callers have to say who they are."""
        return self._credentials is not None

    def oversees(self, exchange: Exchange) -> bool:
        """Whether a caller sees what is other tenants': administers, or sits at this machine."""
        if self.closed:
            return exchange.caller.may(Right.ADMIN)
        return self._is_operator(exchange)

    async def admit(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Let a caller in to a route, note who it is, and count the request.

        Raises Unauthenticated, Forbidden, OverRate.
        """
        right = endpoint.right
        if self._credentials is None:
            exchange.caller = self._stranger(exchange.headers)
            if right is not None and right not in _GUESTS and not self._is_operator(exchange):
                raise Forbidden(_LOCAL_ONLY)
        elif right is None and not endpoint.known:
            await self._admit_anybody(exchange, endpoint.probe)
            return
        else:
            exchange.caller = await self._known(exchange, self._credentials)
            if right is not None and right not in exchange.caller.rights:
                raise Forbidden(f"This credential does not have the right '{right}'.")
        if right in _COUNTED:
            await self.charge(exchange)

    async def charge(self, exchange: Exchange, requests: int = 1) -> None:
        """Count requests of a caller that was let in; raises OverRate, or Invalid for too many."""
        if self._limits.accounts_of(exchange.caller):
            standing = await self._limits.enter(exchange.caller, cost=requests)
            exchange.standings += (standing,)

    def at_once(self, caller: Caller, most: int) -> int:
        """Return how many of `most` requests of one call may be made at once."""
        return self._limits.at_once(caller, most)

    async def _known(self, exchange: Exchange, credentials: Credentials) -> Caller:
        given = self.credential(exchange.headers)
        if not given:
            raise Unauthenticated(self._missing)
        return await credentials.find(given)

    async def _admit_anybody(self, exchange: Exchange, probe: Probe | None) -> None:
        """Let in whoever asks a route that is open to all; who shows nothing, only so often."""
        assert self._credentials is not None, "in open mode nobody is told apart"
        if probe is None:
            return
        try:
            exchange.caller = await self._known(exchange, self._credentials)
        except ServingError:
            await self._limits.enter_address(self.address(exchange), probe)

    def address(self, exchange: Exchange) -> str:
        """Return the address that a request came from."""
        return client_address(exchange.client, exchange.headers, self._proxies)

    def did(self, exchange: Exchange, action: Action) -> None:
        """Write down what a caller has done."""
        self._write(exchange, action, Outcome.OK)

    def failed(self, exchange: Exchange, error: ServingError, endpoint: Endpoint) -> None:
        """Write down that a caller was denied something, if that is what happened.

        A route that is open to all writes for itself who failed at what.
        """
        asks = endpoint.right is not None or endpoint.known
        if asks and error.outcome in _DENIALS:
            self._write(exchange, Action.DENIED, error.outcome)

    def _write(self, exchange: Exchange, action: Action, outcome: Outcome) -> None:
        if self.note is not None:
            self.note(
                AuditEvent(
                    action=action,
                    actor=exchange.caller.user,
                    target=f"{exchange.method} {exchange.path}",
                    outcome=outcome,
                    address=self.address(exchange),
                    request_id=exchange.id,
                )
            )

    def credential(self, headers: Mapping[bytes, bytes]) -> bytes:
        """Return what a caller shows; empty: nothing.  Raises Unauthenticated."""
        authorization = headers.get(b"authorization", b"").rstrip(_BLANKS)
        bearer = b""
        if authorization:
            if authorization[: len(_SCHEME)].lower() != _SCHEME:
                raise Unauthenticated(self._missing)
            bearer = authorization[len(_SCHEME) :].lstrip(_BLANKS)
        key = headers.get(self._header, b"").strip(_BLANKS)
        if bearer and key and bearer != key:
            raise Unauthenticated(_TWO)
        given = bearer or key
        if len(given) > CREDENTIAL_BYTES_MAX:
            raise Unauthenticated(_TOO_LONG)
        return given

    def _stranger(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Name a caller of the open mode by whatever it shows.

        Nothing is proven: the name keeps strangers' keys, caches and shares apart.
        """
        given = headers.get(b"authorization", b"").rstrip(_BLANKS)
        if not given:
            given = headers.get(self._header, b"").rstrip(_BLANKS)
            if not given:
                return _ANYBODY
            given = self._header + b" " + given
        caller = self._strangers.get(given)
        if caller is None:
            tenant = "key-" + hashlib.sha256(given).hexdigest()[:12]
            caller = self._strangers[given] = _guest(tenant)
            if len(self._strangers) > _STRANGERS_MAX:
                self._strangers.popitem(last=False)
        return caller

    def _is_operator(self, exchange: Exchange) -> bool:
        """Whether a request of the open mode was made at this machine, by no web page."""
        headers = exchange.headers
        foreign = headers.get(b"sec-fetch-site", b"none") not in _OWN_SITES
        # A proxy that was told nothing else asks in HTTP/1.0, names us and adds no header (nginx).
        bare = exchange.http_version == "1.0"
        passed_on = foreign or bare or not _PASSED_ON.isdisjoint(headers)
        return self._local and not passed_on and _names_loopback(headers.get(b"host", b""))


def _guest(tenant: str) -> Caller:
    return Caller(tenant=tenant, rights=_GUESTS)


_ANYBODY: Final = _guest(NOBODY.tenant)


def _names_loopback(host: bytes) -> bool:
    """Whether a Host header names this machine: a web page's own name can be made to lead here."""
    parts = _HOST.fullmatch(host)
    return parts is not None and is_loopback((parts[1] or parts[2]).decode().lower())
