"""The configuration of Alertmanager: who is told of what, how often, and of what nobody is.

Alertmanager expands no variables of the environment, so secrets stand in files of their own.
"""

from dataclasses import dataclass
from typing import Any, Final

from forebay.monitoring import messages
from forebay.monitoring.document import rendered
from forebay.monitoring.inhibitions import INHIBITIONS, Inhibition
from forebay.policy.slo import Spec

PAGES: Final = "pagerduty"
TICKETS: Final = "slack"
DIGEST: Final = "mail"
SWITCH: Final = "dead-mans-switch"

_ABOUT: Final = """\
Made by `forebay monitoring write`. Yours to set: the mail server and addresses in `global` and
`mail`, the channel in `slack`, the address in `dead-mans-switch`. Secrets lie in files, each with
nothing but the secret: Slack's webhook address, PagerDuty's Events API v2 key, the mail password.
docs/alerts.md explains who is told of what.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Whom messages go to, and where the secrets lie."""

    secrets: str = "/etc/alertmanager/secrets"
    mail_server: str = "smtp.example.com:587"
    mail_from: str = "alertmanager@example.com"
    mail_to: str = "operators@example.com"
    channel: str = "#forebay"
    switch: str = "http://127.0.0.1:9099/dead-mans-switch"


def alertmanager(spec: Spec, addresses: Addresses | None = None) -> str:
    """Return the text of the configuration."""
    to = addresses or Addresses()
    return rendered(
        {
            "global": {
                "resolve_timeout": "5m",
                "smtp_smarthost": to.mail_server,
                "smtp_from": to.mail_from,
                "smtp_auth_username": to.mail_from,
                "smtp_auth_password_file": f"{to.secrets}/smtp_password",
                "slack_api_url_file": f"{to.secrets}/slack_url",
            },
            "route": _route(),
            "inhibit_rules": [_inhibited(each, spec.service) for each in INHIBITIONS],
            "receivers": [_pages(to), _tickets(to), _digest(to), _switch(to)],
        },
        about=_ABOUT,
    )


def _route() -> dict[str, Any]:
    """Return the tree of routes; the first that matches has an alert, and others by `continue`."""
    return {
        # Whatever has no severity of ours is at least mailed.
        "receiver": DIGEST,
        "group_by": ["alertname", "service", "model"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "4h",
        "routes": [
            {
                # The other side raises the alarm when this stops coming: every minute, it comes.
                "matchers": ['severity="none"'],
                "receiver": SWITCH,
                "group_wait": "0s",
                "group_interval": "30s",
                "repeat_interval": "1m",
            },
            {
                "matchers": ['severity="page"'],
                "receiver": PAGES,
                "group_wait": "10s",
                "repeat_interval": "1h",
                "continue": True,
            },
            {
                "matchers": ['severity="ticket"'],
                "receiver": TICKETS,
                "repeat_interval": "1d",
                "continue": True,
            },
            {
                "matchers": ['severity=~"page|ticket"'],
                "receiver": DIGEST,
                "group_by": ["service"],
                "group_wait": "5m",
                "group_interval": "1h",
                "repeat_interval": "1d",
            },
        ],
    }


def _inhibited(rule: Inhibition, service: str) -> dict[str, Any]:
    of = f'alertname=~"{"|".join(rule.of)}"' if rule.of else f'alertname!="{rule.by}"'
    # The dead man's switch is held back by nothing: its absence would be a false alarm.
    return {
        "source_matchers": [f'alertname="{rule.by}"', f'service="{service}"'],
        "target_matchers": [of, 'severity=~"page|ticket"'],
        "equal": list(rule.equal),
    }


def _pages(to: Addresses) -> dict[str, Any]:
    return {
        "name": PAGES,
        "pagerduty_configs": [
            {
                "send_resolved": True,
                "routing_key_file": f"{to.secrets}/pagerduty_key",
                "severity": "critical",
                "class": "{{ .CommonLabels.area }}",
                "component": "{{ .CommonLabels.model }}",
                "group": "{{ .CommonLabels.service }}",
                "description": messages.PAGE,
                "client": "Forebay",
                "client_url": messages.PAGE_DASHBOARD,
                "links": [
                    {"href": messages.PAGE_RUNBOOK, "text": "Runbook"},
                    {"href": messages.PAGE_DASHBOARD, "text": "Dashboard"},
                ],
                "details": messages.PAGE_DETAILS,
            }
        ],
    }


def _tickets(to: Addresses) -> dict[str, Any]:
    return {
        "name": TICKETS,
        "slack_configs": [
            {
                "send_resolved": True,
                "channel": to.channel,
                "title": messages.SUBJECT,
                "title_link": messages.PAGE_RUNBOOK,
                "fallback": messages.SUBJECT,
                "text": messages.SLACK_TEXT,
            }
        ],
    }


def _digest(to: Addresses) -> dict[str, Any]:
    return {
        "name": DIGEST,
        "email_configs": [
            {
                "send_resolved": True,
                "to": to.mail_to,
                "headers": {"Subject": messages.SUBJECT},
                "html": "",
                "text": messages.MAIL_TEXT,
            }
        ],
    }


def _switch(to: Addresses) -> dict[str, Any]:
    return {
        "name": SWITCH,
        "webhook_configs": [{"send_resolved": False, "url": to.switch}],
    }
