"""Rows 3 and 4: every route and method, with no, wrong, lesser and right credentials.

The class is an allow-list by path text: what nobody thought of is open.  Here a route is found
first, and the right that it declares is asked for; what declares none has to be named below.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from forebay.accounts.directory import Directory
from forebay.accounts.people import NewKey
from forebay.core.caller import RIGHTS, Right, Role
from forebay.core.clock import MONOTONIC
from forebay.engine.protocol import Feature
from forebay.gateway.edge import Gateway
from forebay.gateway.routing import NOTHING, Endpoint, Table
from forebay.serve.lanes import open_lane
from forebay.serve.lifecycle import State
from scripts.route_access import closed_service
from tests.support.asgi import Exchange
from tests.support.gateways import ActingEngine, said

OPEN: Final = frozenset({"/livez", "/readyz", "/startupz", "/health", "/auth/login"})
"""All that answers without credentials; a route that is added here is a decision."""

FOR_TOKENS: Final = frozenset({"/auth/logout", "/auth/password"})
"""Whoever logged in may ask these; a key never logged in."""

METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"),
    *("PROPFIND", "MOVE", "LOCK", "BREW", "get", "GET\t", ""),
)
WRONG: Final = ("fb_live_0000000000", "", " ", "' OR 1=1--", "Bearer", "a.b.c", "null", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A server in closed mode, put together as `forebay serve` does it, and credentials for it."""

    gateway: Gateway
    engine: ActingEngine
    keys: Mapping[str, str]
    """By name: `right-infer` has that right alone, `role-user` all of that role."""
    rights: Mapping[str, frozenset[Right]]


@pytest.fixture
async def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Closed]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with closed_service(tmp_path) as service:
        assert service.tenancy is not None
        engine = ActingEngine(said("Hello"), frozenset(Feature))
        config = service.live.current.admission
        lane = open_lane("m", engine, config=config, created=0, now=MONOTONIC)
        service.lanes.add(lane)
        service.lifecycle.move(State.READY)
        keys, rights = credentials(service.tenancy.directory)
        await service.replay.start()
        yield Closed(gateway=service.gateway, engine=engine, keys=keys, rights=rights)
        await service.replay.stop()


def credentials(directory: Directory) -> tuple[dict[str, str], dict[str, frozenset[Right]]]:
    """Make a user of each role, a key with all its rights, and keys with one right alone."""
    keys, rights = {}, {}
    for role, all_ in RIGHTS.items():
        directory.create_user(f"the-{role}", role=role)
        wish = NewKey(user=f"the-{role}", scopes=all_)
        keys[f"role-{role}"], rights[f"role-{role}"] = directory.create_key(wish)[1], all_
    for right in Right:
        wish = NewKey(user=f"the-{Role.ADMIN}", scopes=frozenset({right}))
        keys[f"right-{right}"] = directory.create_key(wish)[1]
        rights[f"right-{right}"] = frozenset({right})
    return keys, rights


NAMES: Final = (*(f"role-{role}" for role in Role), *(f"right-{right}" for right in Right))


def routes(table: Table) -> Iterator[tuple[str, Endpoint]]:
    """Yield a path of every route, and of what no route has."""
    yield from table.exact.items()
    for beginning, endpoint in table.below.items():
        yield beginning + "some/name", endpoint
        yield beginning, endpoint
    for path in ("/", "", "/nothing", "*", "/v1", "/v1/nothing", "/admin", "/admin/", "/docs/"):
        yield path, NOTHING


def near(path: str) -> Iterator[str]:
    """Yield spellings that lead other servers to a path, as the decoded path that we get."""
    yield path + "/"
    yield "/" + path
    yield path.upper() if path.upper() != path else path + "%20"
    yield path.replace("/", "//")
    yield path.replace("/", "/./")
    yield "/x/.." + path
    yield "/livez/.." + path
    yield "/livez/..;" + path
    yield "/livez;" + path
    yield path + ";x=y"
    yield path + "%2f"
    yield path + "\x00"
    yield path + "?"
    yield path + "#"
    yield path + "."
    yield path.replace("/", "\\")
    yield path[1:]
    yield "http://127.0.0.1" + path
    yield "/%2e%2e" + path


async def asked(closed: Closed, method: str, path: str, **headers: str) -> Exchange:
    """Send a request that has all it needs but, perhaps, a credential."""
    exchange = Exchange(
        closed.gateway, method, path, content_type="application/json", host="127.0.0.1", **headers
    )
    exchange.body(b"{}")
    await exchange.run()
    return exchange


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def is_refused(exchange: Exchange, status: int) -> bool:
    """Whether it was refused before its body was read, in the shape of its path."""
    if exchange.status != status or not exchange.waiting:
        return False
    if exchange.scope["method"] == "HEAD" and not exchange.content:
        return True
    body = exchange.json
    if exchange.scope["path"].startswith("/v1/"):
        return set(body["error"]) == {"message", "type", "param", "code"}
    return bool(body["status"] == status)


async def test_without_a_credential_nothing_but_what_is_named_answers(closed: Closed) -> None:
    for path, _ in routes(closed.gateway.table):
        for method in METHODS:
            exchange = await asked(closed, method, path)
            where = f"{method} {path}: {exchange.status}"
            if path in OPEN:
                assert exchange.status in {200, 400, 405, 415, 429}, where
            else:
                assert is_refused(exchange, 401), where
                assert exchange.headers["www-authenticate"] == "Bearer"
    assert not closed.engine.asked


async def test_what_answers_without_a_credential_is_named(closed: Closed) -> None:
    table = closed.gateway.table
    assert NOTHING.right is not None, "what is not there has to be asked for, too"
    found = {path for path, each in routes(table) if each.right is None and not each.known}
    assert found == OPEN
    assert not any(endpoint.right is None for endpoint in table.below.values())


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_credential_opens_nothing(closed: Closed, wrong: str) -> None:
    for path, _ in routes(closed.gateway.table):
        for method in ("GET", "POST"):
            for headers in (bearer(wrong), {"x-api-key": wrong}):
                exchange = await asked(closed, method, path, **headers)
                assert path in OPEN or is_refused(exchange, 401), f"{method} {path}"


@pytest.mark.parametrize(
    "scheme", ["Basic {}", "{}", "Token {}", "Bearer{}", "Bearer: {}", "Key {}"]
)
async def test_another_scheme_opens_nothing(closed: Closed, scheme: str) -> None:
    shown = scheme.format(closed.keys["role-admin"])
    for path, _ in routes(closed.gateway.table):
        exchange = await asked(closed, "GET", path, authorization=shown)
        assert path in OPEN or is_refused(exchange, 401), path


async def test_two_credentials_that_differ_open_nothing(closed: Closed) -> None:
    both = bearer(closed.keys["right-admin"]) | {"x-api-key": closed.keys["right-operate"]}
    for path, _ in routes(closed.gateway.table):
        exchange = await asked(closed, "GET", path, **both)
        assert path in OPEN or is_refused(exchange, 401), path


async def test_a_credential_in_the_query_or_in_a_cookie_opens_nothing(closed: Closed) -> None:
    key = closed.keys["role-admin"]
    for path, _ in routes(closed.gateway.table):
        exchange = Exchange(closed.gateway, "GET", path, cookie=f"key={key}")
        exchange.scope["query_string"] = f"api_key={key}&access_token={key}".encode()
        exchange.body(b"{}")
        await exchange.run()
        assert path in OPEN or is_refused(exchange, 401), path


@pytest.mark.parametrize("key", NAMES)
async def test_a_credential_opens_what_its_rights_say_and_nothing_else(
    closed: Closed, key: str
) -> None:
    rights = closed.rights[key]
    for path, endpoint in routes(closed.gateway.table):
        for method in METHODS:
            exchange = await asked(closed, method, path, **bearer(closed.keys[key]))
            where = f"{method} {path} with {key}: {exchange.status}"
            if path in FOR_TOKENS:
                assert exchange.status in {400, 403, 405}, where
            elif endpoint.right is None:
                assert exchange.status not in {401, 403}, where
            elif endpoint.right in rights:
                assert exchange.status not in {401, 403}, where
                assert exchange.status < 500, where
                right_method = not endpoint.methods or method in endpoint.methods
                assert right_method == (exchange.status != 405), where
            else:
                assert is_refused(exchange, 403), where


async def test_another_spelling_of_a_path_opens_nothing(closed: Closed) -> None:
    table = closed.gateway.table
    for path, _ in routes(table):
        for spelling in near(path):
            if spelling in OPEN:
                continue
            exchange = await asked(closed, "GET", spelling)
            assert is_refused(exchange, 401), spelling


async def test_another_spelling_of_an_operators_path_is_not_found_by_a_user(closed: Closed) -> None:
    table = closed.gateway.table
    operators = [path for path, each in routes(table) if each.right in {Right.OPERATE, Right.ADMIN}]
    assert operators
    for path in operators:
        for spelling in near(path):
            if spelling in table.exact:
                continue
            exchange = await asked(closed, "GET", spelling, **bearer(closed.keys["role-user"]))
            assert exchange.status == 404, f"{spelling}: {exchange.status}"


async def test_a_user_cannot_tell_a_route_it_may_not_use_from_its_methods(closed: Closed) -> None:
    """403 for every method alike: which of them exist is for those who may use them."""
    for path, endpoint in routes(closed.gateway.table):
        if endpoint.right in {Right.OPERATE, Right.ADMIN}:
            found = {
                (await asked(closed, method, path, **bearer(closed.keys["role-user"]))).status
                for method in METHODS
            }
            assert found == {403}, path


async def test_the_hierarchy_of_roles_is_what_it_says() -> None:
    assert RIGHTS[Role.ADMIN] == frozenset(Right)
    assert Right.ADMIN not in RIGHTS[Role.OPERATOR]
    assert RIGHTS[Role.USER] < RIGHTS[Role.OPERATOR]
    assert RIGHTS[Role.METRICS_READER] == {Right.METRICS}
