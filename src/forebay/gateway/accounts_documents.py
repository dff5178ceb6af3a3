"""What the OpenAPI document says of the routes that only the closed mode has."""

from typing import Any, Final

from forebay.gateway import accounts_pages, admin_accounts, admin_budgets, auth
from forebay.gateway.usage import USAGE_PATH

Json = dict[str, Any]

SCHEMAS: Final = (
    auth.LoginBody,
    auth.PasswordBody,
    auth.TokenPage,
    auth.MePage,
    auth.DonePage,
    accounts_pages.Page,
    accounts_pages.UserItem,
    accounts_pages.TenantItem,
    accounts_pages.KeyItem,
    accounts_pages.AuditPage,
    accounts_pages.UserOrder,
    accounts_pages.UserUpdate,
    accounts_pages.TenantUpdate,
    accounts_pages.KeyOrder,
    accounts_pages.KeyName,
    accounts_pages.KeyRotation,
    admin_budgets.BudgetOrder,
    admin_budgets.BudgetKey,
)
_PAGE: Final = ("after", "count")

READS: Final = {
    auth.ME_PATH: ("Who am I, and what may I do?", "MePage", ()),
    USAGE_PATH: (
        "What was used, and what is left of budgets.",
        "",
        ("from", "to", "by", "format", "limit", "page", "user", "tenant", "key"),
    ),
    admin_accounts.USERS_PATH: ("Users, by name.", "Page", _PAGE),
    admin_accounts.TENANTS_PATH: ("Tenants, by name.", "Page", _PAGE),
    admin_accounts.KEYS_PATH: ("API keys, by id.", "Page", (*_PAGE, "user")),
    admin_budgets.BUDGETS_PATH: ("Budgets, and what is left of them.", "", ()),
    admin_accounts.AUDIT_PATH: (
        "Who did what, the latest first.",
        "AuditPage",
        ("before", "count", "actor"),
    ),
}
"""Path -> what it tells, its schema, and the fields of its query."""

ORDERS: Final = {
    auth.LOGIN_PATH: ("Get a token for a password.", "TokenPage", "LoginBody"),
    auth.LOGOUT_PATH: ("End the token that is shown.", "DonePage", ""),
    auth.PASSWORD_PATH: ("Change one's password; one's tokens end.", "DonePage", "PasswordBody"),
    admin_accounts.USERS_PATH: ("Make a user.", "UserItem", "UserOrder"),
    admin_accounts.UPDATE_USER_PATH: ("Change a user.", "UserItem", "UserUpdate"),
    admin_accounts.UPDATE_TENANT_PATH: ("Change a tenant.", "TenantItem", "TenantUpdate"),
    admin_accounts.KEYS_PATH: ("Make an API key; it is shown this once.", "KeyItem", "KeyOrder"),
    admin_accounts.REVOKE_PATH: ("End an API key for good.", "KeyItem", "KeyName"),
    admin_budgets.BUDGETS_PATH: ("Set a budget, or change one.", "", "BudgetOrder"),
    admin_budgets.REMOVE_PATH: ("Remove a budget.", "", "BudgetKey"),
    admin_accounts.ROTATE_PATH: (
        "Give an API key a new text; the old one opens the same for a while.",
        "KeyItem",
        "KeyRotation",
    ),
}
"""Path -> what it does, its answer's schema, and its body's."""


def query(name: str) -> Json:
    """Describe a field of a query."""
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
