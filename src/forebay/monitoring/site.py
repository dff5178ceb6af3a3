"""One server that is asked over HTTP, in bounded time; what goes wrong is a sentence.

No redirect is followed: a credential is shown to the address that was typed, and to no other.
"""

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

_BYTES_MAX: Final = 32 << 20
"""A page of metrics at the bound of its series takes 1 MB; a rules file's answer less."""
_CHUNK_BYTES: Final = 1 << 16
_PORTS: Final = {"http": 80, "https": 443}
_ALWAYS: Final = {"Accept": "application/json", "Connection": "close"}


class WrongUrl(ValueError):
    """What was typed is no address; the text says what is."""


class Unanswered(Exception):
    """There is no usable answer; the text says why, and shows no credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def well(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own

    def data(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the body's JSON; raises Unanswered."""
        try:
            return json.loads(self.body)
        except (RecursionError, ValueError):
            message = f"It answers {self.status} with something that is not JSON."
            raise Unanswered(message) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a server is, and what is shown to it with each question."""

    url: SplitResult
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """Its host and port: no path, no credential."""
        return f"{self._host}:{self._port}"

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Ask for a page; raises Unanswered."""
        target = path + (f"?{urlencode(query)}" if query else "")
        return self._ask(_Question(method="GET", target=target, headers=self.headers))

    def post(
        self, path: str, body: object, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Answer:
        """Send a JSON body; raises Unanswered."""
        shown = {"Content-Type": "application/json", **self.headers, **headers}
        question = _Question(
            method="POST", target=path, headers=shown, body=json.dumps(body).encode()
        )
        return self._ask(question)

    def with_headers(self, headers: Mapping[str, str]) -> "Site":
        """Return the same site, to which these headers are shown too."""
        return replace(self, headers={**self.headers, **headers})

    @property
    def _host(self) -> str:
        return self.url.hostname or ""

    @property
    def _port(self) -> int:
        return self.url.port or _PORTS[self.url.scheme]

    def _ask(self, question: "_Question") -> Answer:
        try:
            return self._exchange(question)
        except ssl.SSLCertVerificationError as error:
            raise Unanswered(
                f"The certificate of {self.place} is not trusted ({error.verify_message}). "
                "Name its authority's file in SSL_CERT_FILE."
            ) from error
        except ssl.SSLError as error:
            raise Unanswered(f"{self.place} does not speak TLS; try http://.") from error
        except socket.gaierror as error:
            raise Unanswered(f"There is no host {self._host}.") from error
        except ConnectionRefusedError as error:
            raise Unanswered(f"Nobody listens at {self.place}.") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(
                f"{self.place} gives no whole answer within {self.timeout_s:g} s."
            ) from error

    def _exchange(self, question: "_Question") -> Answer:
        plain = socket.create_connection((self._host, self._port), self.timeout_s)
        # Each wait is bounded by the socket, all of them together by this hand on it.
        hand = plain.dup()
        late = threading.Event()
        cut = threading.Timer(self.timeout_s, partial(_cut, hand, late))
        cut.daemon = True
        connection = http.client.HTTPConnection(self._host, self._port)
        connection.sock = plain
        with contextlib.closing(plain), contextlib.closing(hand), contextlib.closing(connection):
            cut.start()
            try:
                if self.url.scheme == "https":
                    trusted = ssl.create_default_context()
                    connection.sock = trusted.wrap_socket(plain, server_hostname=self._host)
                connection.request(
                    question.method,
                    self.url.path.rstrip("/") + question.target,
                    body=question.body,
                    headers={**_ALWAYS, **question.headers},
                )
                answer = _read(connection.getresponse())
            finally:
                cut.cancel()
        if late.is_set():  # what was cut off looks like an answer that ends early
            raise TimeoutError
        return answer


def site(url: str, *, timeout_s: float, token: str = "") -> Site:
    """Return the site of a URL, whose user and password are shown if it has them.

    `token` is shown as a bearer's.  Raises WrongUrl.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        port, parts = 0, urlsplit("")
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise WrongUrl("An address looks like http://127.0.0.1:8000 or https://llm.example.org.")
    headers = {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return Site(url=parts, timeout_s=timeout_s, headers=headers)


def _read(response: http.client.HTTPResponse) -> Answer:
    body = b""
    while chunk := response.read1(_CHUNK_BYTES):
        body += chunk
        if len(body) > _BYTES_MAX:
            raise http.client.HTTPException("longer than what is read")
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(status=response.status, headers=headers, body=body)


def _cut(hand: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        hand.shutdown(socket.SHUT_RDWR)
