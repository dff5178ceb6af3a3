"""`forebay users`, `forebay keys` and `forebay audit`: on the accounts database itself."""

import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from forebay.accounts.audit_event import Action
from forebay.cli.loading import USAGE, Assignments, ConfigFile, fail
from forebay.cli.opening import opened
from forebay.cli.tables import AsJson, print_json, print_table, say_if_cut
from forebay.core.caller import Right, Role

if TYPE_CHECKING:
    from forebay.gateway.accounts_pages import BoundsItem

_DURATION: Final = re.compile(r"([1-9][0-9]{0,6})\s*([smhdw])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_ROWS: Final = 1_000

users = typer.Typer(no_args_is_help=True, help="People and service accounts.")
keys = typer.Typer(no_args_is_help=True, help="API keys: made, listed, replaced, revoked.")
commands = typer.Typer()
commands.add_typer(users, name="users")
commands.add_typer(keys, name="keys")

Requests = Annotated[
    str | None, typer.Option(metavar="RATE", help="Most requests, such as 100/minute.")
]
Tokens = Annotated[
    str | None, typer.Option(metavar="RATE", help="Most tokens, such as 100000/minute.")
]
Concurrent = Annotated[int | None, typer.Option(metavar="N", help="Most requests at once.")]
UserName = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]


@users.command("create")
def create_user(  # noqa: PLR0913 - a command's options are its parameters
    name: UserName,
    *,
    role: Annotated[Role, typer.Option(help="What the user is to the server.")] = Role.USER,
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="Whose user it is. Default: a tenant of its own.")
    ] = "",
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password, so that it can log in.")
    ] = False,
    requests: Requests = None,
    tokens: Tokens = None,
    concurrent: Concurrent = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Make a user; without a password a service account, which shows keys only."""
    from forebay.gateway.accounts_pages import bounds_of, user_item  # noqa: PLC0415 - see main

    given = _asked_password() if password else None
    with opened(config, assignments) as book:
        bounds = bounds_of(_limits(requests, tokens, concurrent))
        user = book.directory.create_user(
            name, role=role, tenant=tenant, password=given, bounds=bounds
        )
        book.note(Action.USER_CREATED, user.name, role=user.role, tenant=user.tenant)
        _print(user_item(user), f"Made the {user.role} {name} of {user.tenant}.", as_json=as_json)


@users.command("list")
def list_users(
    *, as_json: AsJson = False, config: ConfigFile = None, assignments: Assignments = None
) -> None:
    """List users."""
    from forebay.gateway.accounts_pages import user_item  # noqa: PLC0415 - see main

    with opened(config, assignments) as book:
        items = [user_item(user) for user in book.directory.users(count=_ROWS)]
    say_if_cut(items, _ROWS)
    if as_json:
        print_json(items)
        return
    rows = [
        (each.name, each.tenant, each.role, _limits_shown(each.limits), _state(each.disabled))
        for each in items
    ]
    print_table(("user", "tenant", "role", "limits", "state"), rows)


@users.command("password")
def set_password(
    name: UserName, *, config: ConfigFile = None, assignments: Assignments = None
) -> None:
    """Give a user a new password; its tokens end."""
    from forebay.accounts.people import UserChange  # noqa: PLC0415 - see main

    password = _asked_password()
    with opened(config, assignments) as book:
        book.directory.change_user(name, UserChange(password=password))
        book.note(Action.PASSWORD_CHANGED, name)
    typer.echo(f"{name} has a new password, and is logged out everywhere.")


@users.command("logout")
def log_out(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The user. Or, with --all, nobody.")
    ] = None,
    *,
    everybody: Annotated[
        bool, typer.Option("--all", help="Everybody, by new signing keys: if others saw the old.")
    ] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """End every token of a user, or of all; API keys go on."""
    from forebay.accounts.signing_keys import SigningKeys  # noqa: PLC0415 - see main

    if (name is None) != everybody:
        fail("Name the user, or say --all.", status=USAGE)
    with opened(config, assignments) as book:
        if name is None:
            SigningKeys(book.database, book.settings.tokens).replace_all(time.time())
        else:
            book.directory.end_tokens(name)
        book.note(Action.LOGOUT, name or "everybody")
    typer.echo(f"{name or 'Everybody'} is logged out everywhere, within half a minute.")


@users.command("disable")
def disable_user(
    name: UserName, *, config: ConfigFile = None, assignments: Assignments = None
) -> None:
    """Let a user in no more, by no password, token or key."""
    _set_disabled(name, config, assignments, disabled=True)


@users.command("enable")
def enable_user(
    name: UserName, *, config: ConfigFile = None, assignments: Assignments = None
) -> None:
    """Let a user in again."""
    _set_disabled(name, config, assignments, disabled=False)


def _set_disabled(
    name: str, config: ConfigFile, assignments: Assignments, *, disabled: bool
) -> None:
    from forebay.accounts.people import UserChange  # noqa: PLC0415 - see main

    with opened(config, assignments) as book:
        book.directory.change_user(name, UserChange(disabled=disabled))
        book.note(Action.USER_CHANGED, name, disabled=disabled)
    typer.echo(f"{name} is {'disabled' if disabled else 'enabled'}.")


@keys.command("create")
def create_key(  # noqa: PLR0913 - a command's options are its parameters
    *,
    user: Annotated[str, typer.Option(metavar="NAME", help="Whose key it is.")],
    name: Annotated[str, typer.Option(metavar="TEXT", help="Where it is used, for people.")] = "",
    scope: Annotated[
        list[Right] | None,
        typer.Option(
            help="What it may do; may be repeated. Default: all of its user's rights but admin."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A model that it may ask; may be repeated. Default: all."
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="When it ends, such as 90d or 12h. Default: never.")
    ] = "",
    requests: Requests = None,
    tokens: Tokens = None,
    concurrent: Concurrent = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Make a key and show it, this once."""
    from forebay.gateway.accounts_pages import (  # noqa: PLC0415 - see main
        KeyOrder,
        key_item,
        new_key,
    )

    order = KeyOrder(
        user=user,
        name=name,
        scopes=scope or None,
        models=model or None,
        expires_in_s=_seconds(expires, "--expires"),
        limits=_limits(requests, tokens, concurrent),
    )
    with opened(config, assignments) as book:
        key, text = book.directory.create_key(new_key(order))
        scopes = " ".join(sorted(key.scopes))
        book.note(Action.KEY_CREATED, key.id, user=key.user, scopes=scopes)
    shown = f"{text}\n\nThis is the key {key.id} of {user}, shown this once. It may: {scopes}."
    _print(key_item(key, text), shown, as_json=as_json)


@keys.command("list")
def list_keys(
    *,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose keys. Default: everybody's.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """List keys."""
    from forebay.gateway.accounts_pages import key_item  # noqa: PLC0415 - see main

    with opened(config, assignments) as book:
        items = [key_item(key) for key in book.directory.keys(user, count=_ROWS)]
    say_if_cut(items, _ROWS)
    if as_json:
        print_json(items)
        return
    rows = [
        (
            each.id,
            each.user,
            each.name,
            f"...{each.last4}",
            " ".join(each.scopes),
            _ends(each.expires_at, each.revoked_at),
            _moment(each.last_used_at) or "never",
        )
        for each in items
    ]
    print_table(("id", "user", "name", "key", "scopes", "ends", "last used"), rows)


@keys.command("revoke")
def revoke_key(id: KeyId, *, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """End a key for good."""
    with opened(config, assignments) as book:
        key = book.directory.revoke_key(id)
        book.note(Action.KEY_REVOKED, id, user=key.user)
    typer.echo(f"The key {id} of {key.user} opens nothing any more.")


@keys.command("rotate")
def rotate_key(
    id: KeyId,
    *,
    overlap: Annotated[
        str, typer.Option(metavar="TIME", help="How long the old text opens the same.")
    ] = "1d",
    as_json: AsJson = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Give a key a new text and show it, this once; its id, limits and usage stay."""
    from forebay.gateway.accounts_pages import key_item  # noqa: PLC0415 - see main

    overlap_s = _seconds(overlap, "--overlap") or 0.0
    with opened(config, assignments) as book:
        before = book.directory.key(id)
        key, text = book.directory.rotate_key(id, overlap_s)
        book.note(Action.KEY_ROTATED, id, user=key.user, overlap_s=overlap_s)
    shown = f"{text}\n\nThis is the key {id} of {key.user} from now on, shown this once."
    shown += f" The old one ends in {overlap}."
    if before.old_ends is not None and before.old_ends > time.time():
        shown += " The one before that, which still opened the same, has ended."
    _print(key_item(key, text), shown, as_json=as_json)


@commands.command()
def audit(  # noqa: PLR0913 - a command's options are its parameters
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check that nothing was changed or taken out.")
    ] = False,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this user did.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many, the latest first.")] = 50,
    as_json: AsJson = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Show who did what: logins, keys, users, models, settings."""
    from forebay.accounts.audit import Audit  # noqa: PLC0415 - see main
    from forebay.gateway.accounts_pages import audit_item  # noqa: PLC0415 - see main

    with opened(config, assignments) as book:
        log = Audit(book.database)
        if verify:
            verdict = log.verify()
            if verdict.broken_at is not None:
                fail(f"The audit log is broken at row {verdict.broken_at} of {verdict.rows}.")
            typer.echo(f"{verdict.rows} rows, none changed. The last digest is {verdict.digest}.")
            return
        items = [audit_item(row) for row in log.page(count=count, actor=actor)]
    if as_json:
        print_json(items)
        return
    rows = [
        (_moment(each.at), each.action, each.actor, each.target, each.outcome, each.address)
        for each in items
    ]
    print_table(("when", "what", "who", "whom", "outcome", "from"), rows)


def _asked_password() -> str:
    """Ask for a password twice; from a pipe, read its first line."""
    if not sys.stdin.isatty():
        given = sys.stdin.readline().rstrip("\r\n")
        if not given:
            fail("There is no password on standard input.", status=USAGE)
        return given
    return typer.prompt("Password", hide_input=True, confirmation_prompt=True)  # type: ignore[no-any-return]


def _limits(requests: str | None, tokens: str | None, concurrent: int | None) -> "BoundsItem":
    from forebay.gateway.accounts_pages import BoundsItem  # noqa: PLC0415 - see main

    return BoundsItem(requests=requests, tokens=tokens, concurrent=concurrent)


def _seconds(text: str, option: str) -> float | None:
    if not text:
        return None
    parts = _DURATION.fullmatch(text.strip().lower())
    if parts is None:
        fail(
            f"{option} must be a time such as 30m, 12h, 90d or 4w; found {text[:40]!r}.",
            status=USAGE,
        )
    return float(int(parts[1]) * _UNITS_S[parts[2]])


def _limits_shown(limits: "BoundsItem") -> str:
    parts = []
    if limits.requests:
        parts.append(f"{limits.requests} requests")
    if limits.tokens:
        parts.append(f"{limits.tokens} tokens")
    if limits.concurrent:
        parts.append(f"{limits.concurrent} at once")
    return ", ".join(parts) or "default"


def _state(disabled: bool) -> str:  # noqa: FBT001 - it is what is shown
    return "disabled" if disabled else "active"


def _ends(expires_at: float | None, revoked_at: float | None) -> str:
    if revoked_at is not None:
        return f"revoked {_moment(revoked_at)}"
    return _moment(expires_at) or "never"


def _moment(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def _print(item: msgspec.Struct, words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(item)
    else:
        typer.echo(words)
