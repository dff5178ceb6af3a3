"""What the audit log is told: who did what to whom, and how it ended.

This module loads no database library, so that whoever notes an event needs none.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from forebay.core.errors import Outcome

Detail = str | int | float | bool | None

TEXT_MAX: Final = 200
"""Characters that are kept of an actor, a target, an address or one detail."""
DETAILS_MAX: Final = 16
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")


class Action(enum.StrEnum):
    """What is written down: whatever changes who may do what, and who tried."""

    SERVER_STARTED = "server.started"
    SERVER_STOPPED = "server.stopped"
    LOGIN = "login"
    LOGOUT = "logout"
    DENIED = "denied"
    """A credential was not taken, or did not allow what was asked."""
    PASSWORD_CHANGED = "password.changed"
    USER_CREATED = "user.created"
    USER_CHANGED = "user.changed"
    TENANT_CHANGED = "tenant.changed"
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    BUDGET_SET = "budget.set"
    BUDGET_REMOVED = "budget.removed"
    SETTINGS_READ = "settings.read"
    """They were read again while the server ran."""
    MODEL_CHANGED = "model.changed"
    """Loaded, drained, or put on offer."""
    ROUTE_CHANGED = "route.changed"
    SKIPPED = "skipped"
    """So many events like these were counted and not written: see `count` among its details."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One line of the audit log.  Nothing secret goes in: no password, no key, no prompt."""

    action: Action
    actor: str = ""
    """The user's name, or what somebody claimed to be; empty: nobody, or the server itself."""
    target: str = ""
    outcome: Outcome = Outcome.OK
    address: str = ""
    request_id: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict)


def tidied(text: str) -> str:
    """Return a text as it is kept: short, and without what would move a terminal's cursor."""
    cut = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:TEXT_MAX])
    return cut if len(text) <= TEXT_MAX else cut[:-1] + "…"


def tidied_details(details: Mapping[str, Detail]) -> dict[str, Detail]:
    """Return details as they are kept: few, and each short."""
    first = list(details.items())[:DETAILS_MAX]
    return {tidied(name): tidied(each) if isinstance(each, str) else each for name, each in first}
