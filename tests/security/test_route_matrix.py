"""Rows 3 and 4: every route and method, with no, wrong, lesser and right credentials.

The class is an allow-list by path text: what nobody thought of is open.  Here a route is found
first, and the right that it declares is asked for; what declares none has to be named below.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from forebay.core.caller import RIGHTS, Caller, Right, Role
from forebay.gateway.routing import NOTHING, Endpoint, Table
from tests.support.asgi import Exchange
from tests.support.gateways import Stage, a_stage, keys

OPEN: Final = frozenset({"/livez", "/readyz", "/startupz", "/health", "/auth/login"})
"""All that answers without credentials; a route that is added here is a decision."""

METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"),
    *("PROPFIND", "MOVE", "LOCK", "BREW", "get", "GET\t", ""),
)
KEYS: Final = {f"right-{right}": Caller(tenant="t", rights=frozenset({right})) for right in Right}
ROLES: Final = {
    f"role-{role}": Caller(tenant="t", rights=rights) for role, rights in RIGHTS.items()
}
WITHOUT: Final = Caller(tenant="t", rights=frozenset())
WRONG: Final = (
    "fb_live_0000000000",
    "",
    " ",
    "' OR 1=1--",
    "Bearer",
    "right-infer,",
    "RIGHT-INFER",
)


@pytest.fixture
async def stage() -> Stage:
    known = KEYS | ROLES | {"role-none": WITHOUT}
    credentials = keys(known)
    return a_stage(credentials=credentials, local=True)


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


async def asked(stage: Stage, method: str, path: str, **headers: str) -> Exchange:
    """Send a request that has all it needs but, perhaps, a credential."""
    exchange = Exchange(
        stage.gateway, method, path, content_type="application/json", host="127.0.0.1", **headers
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


async def test_without_a_credential_nothing_but_what_is_named_answers(stage: Stage) -> None:
    for path, _ in routes(stage.gateway.table):
        for method in METHODS:
            exchange = await asked(stage, method, path)
            where = f"{method} {path}: {exchange.status}"
            if path in OPEN:
                assert exchange.status in {200, 400, 405, 415, 429}, where
            else:
                assert is_refused(exchange, 401), where
                assert exchange.headers["www-authenticate"] == "Bearer"
    assert not stage.engine.asked


async def test_what_answers_without_a_credential_is_named(stage: Stage) -> None:
    table = stage.gateway.table
    assert NOTHING.right is not None, "what is not there has to be asked for, too"
    found = {path for path, endpoint in routes(table) if endpoint.right is None}
    assert found <= OPEN
    assert not any(endpoint.right is None for endpoint in table.below.values())


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_credential_opens_nothing(stage: Stage, wrong: str) -> None:
    for path, _ in routes(stage.gateway.table):
        for method in ("GET", "POST"):
            for headers in (bearer(wrong), {"x-api-key": wrong}):
                exchange = await asked(stage, method, path, **headers)
                assert path in OPEN or is_refused(exchange, 401), f"{method} {path}"


@pytest.mark.parametrize(
    "scheme",
    ["Basic right-admin", "right-admin", "Token right-admin", "Bearerright-admin", "Bearer"],
)
async def test_another_scheme_opens_nothing(stage: Stage, scheme: str) -> None:
    for path, _ in routes(stage.gateway.table):
        exchange = await asked(stage, "GET", path, authorization=scheme)
        assert path in OPEN or is_refused(exchange, 401), path


async def test_two_credentials_that_differ_open_nothing(stage: Stage) -> None:
    both = bearer("right-admin") | {"x-api-key": "right-operate"}
    for path, _ in routes(stage.gateway.table):
        exchange = await asked(stage, "GET", path, **both)
        assert path in OPEN or is_refused(exchange, 401), path


async def test_a_credential_in_the_query_or_in_a_cookie_opens_nothing(stage: Stage) -> None:
    for path, _ in routes(stage.gateway.table):
        exchange = Exchange(stage.gateway, "GET", path, cookie="key=right-admin")
        exchange.scope["query_string"] = b"api_key=right-admin&access_token=right-admin"
        exchange.body(b"{}")
        await exchange.run()
        assert path in OPEN or is_refused(exchange, 401), path


@pytest.mark.parametrize("key", [*KEYS, *ROLES, "role-none"])
async def test_a_credential_opens_what_its_rights_say_and_nothing_else(
    stage: Stage, key: str
) -> None:
    rights = (KEYS | ROLES | {"role-none": WITHOUT})[key].rights
    for path, endpoint in routes(stage.gateway.table):
        for method in METHODS:
            exchange = await asked(stage, method, path, **bearer(key))
            where = f"{method} {path} with {key}: {exchange.status}"
            if endpoint.right is None:
                assert exchange.status not in {401, 403}, where
            elif endpoint.right in rights:
                assert exchange.status not in {401, 403}, where
                assert exchange.status < 500, where
                right_method = not endpoint.methods or method in endpoint.methods
                assert right_method == (exchange.status != 405), where
            else:
                assert is_refused(exchange, 403), where


async def test_another_spelling_of_a_path_opens_nothing(stage: Stage) -> None:
    table = stage.gateway.table
    for path, _ in routes(table):
        for spelling in near(path):
            if spelling in OPEN:
                continue
            exchange = await asked(stage, "GET", spelling)
            assert is_refused(exchange, 401), spelling


async def test_another_spelling_of_an_operators_path_is_not_found_by_a_user(stage: Stage) -> None:
    table = stage.gateway.table
    operators = [path for path, each in routes(table) if each.right in {Right.OPERATE, Right.ADMIN}]
    assert operators
    for path in operators:
        for spelling in near(path):
            if spelling in table.exact:
                continue
            exchange = await asked(stage, "GET", spelling, **bearer("role-user"))
            assert exchange.status == 404, f"{spelling}: {exchange.status}"


async def test_a_user_cannot_tell_a_route_it_may_not_use_from_its_methods(stage: Stage) -> None:
    """403 for every method alike: which of them exist is for those who may use them."""
    for path, endpoint in routes(stage.gateway.table):
        if endpoint.right is Right.OPERATE:
            found = {
                (await asked(stage, method, path, **bearer("role-user"))).status
                for method in METHODS
            }
            assert found == {403}, path


async def test_the_hierarchy_of_roles_is_what_it_says() -> None:
    assert RIGHTS[Role.ADMIN] == frozenset(Right)
    assert Right.ADMIN not in RIGHTS[Role.OPERATOR]
    assert RIGHTS[Role.USER] < RIGHTS[Role.OPERATOR]
    assert RIGHTS[Role.METRICS_READER] == {Right.METRICS}
