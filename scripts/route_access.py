"""The page of who may do what: read from the table of routes that a server in closed mode has."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from forebay import app
from forebay.accounts.config import AccountsConfig, default_url
from forebay.app import Service
from forebay.core.caller import RIGHTS, Role
from forebay.fleet import ServedModel
from forebay.gateway.routing import NOTHING, Endpoint, Table
from forebay.serve.credentials import AccessConfig
from forebay.serve.limits_config import LimitsConfig
from forebay.settings import EngineConfig, LiveSettings, Settings
from forebay.telemetry.logs import LogConfig

_HEAD: Final = """\
# Who may do what

Every route of a server with `access.mode=closed`, the right that it asks for, and which roles have
it. A key has those rights of its user's role that its scopes name. Whoever shows no credential, or
a wrong one, gets 401 for everything but what is open to all, also where there is nothing; whoever
lacks the right gets 403, whatever the method. `tests/security/test_route_matrix.py` asks every
route by every method with no, wrong, lesser and right credentials, and by other spellings.

In open mode nobody is asked; what needs `operate` answers this machine only, and what comes with
accounts is not there.
"""
_STATIC: Final = "/docs/static/"
_UNLIMITED: Final = LimitsConfig(requests="1000000/minute", health="", probes="")


@contextmanager
def closed_service(folder: Path) -> Iterator[Service]:
    """Put a server in closed mode together, with its state in `folder`; nothing runs."""
    settings = Settings(
        engine=EngineConfig(name="scripted"),
        log=LogConfig(destination=str(folder / "log")),
        access=AccessConfig(mode="closed"),
        accounts=AccountsConfig(
            url=default_url(folder), password_memory_bytes=8_388_608, password_passes_min=1
        ),
        limits=_UNLIMITED,
    )
    service = app.build(LiveSettings(settings), [ServedModel(name="m")])
    tenancy = service.tenancy
    assert tenancy is not None
    try:
        with service.log:
            yield service
    finally:
        tenancy.hashing.close()
        tenancy.clerks.close()
        tenancy.database.close()


def route_access_page() -> str:
    """Return the page."""
    with (
        tempfile.TemporaryDirectory(prefix="forebay-docs-") as folder,
        closed_service(Path(folder)) as service,
    ):
        return page(service.gateway.table)


def page(table: Table) -> str:
    """Return the page of a table of routes."""
    lines = [_HEAD, *_row(("Route", "Methods", "Right", *Role)), *_row(["---"] * (3 + len(Role)))]
    for path, endpoint in sorted(_routes(table), key=lambda each: each[0]):
        right = endpoint.right
        cells = ["yes" if right is None or right in RIGHTS[role] else "" for role in Role]
        methods = ", ".join(endpoint.methods) or "any"
        named = "none: open to all" if right is None else f"`{right}`"
        named = "any credential" if endpoint.known else named
        lines += _row((path, methods, named, *cells))
    return "\n".join(lines)


def _routes(table: Table) -> Iterator[tuple[str, Endpoint]]:
    found = {path: each for path, each in table.exact.items() if not path.startswith(_STATIC)}
    for path, endpoint in found.items():
        yield f"`{path}`", endpoint
    for beginning, endpoint in table.below.items():
        yield f"`{beginning}...`", endpoint
    statics = [each for path, each in table.exact.items() if path.startswith(_STATIC)]
    if statics:
        yield f"`{_STATIC}...`", statics[0]
    yield "everything else (404)", NOTHING


def _row(cells: "tuple[str, ...] | list[str]") -> list[str]:
    return [f"| {' | '.join(cells)} |"]
