"""The sinks of the drill of alerts: what a mail and a web client deliver is kept as it came."""

import asyncio
import json
import smtplib
import urllib.error
import urllib.request
from email.message import EmailMessage
from typing import Any

import pytest

from forebay.drill.sinks import Channel, Sinks, listening

LINK = "https://example.org/runbooks/ForebayDown.md"


def mail(port: int, subject: str, text: str) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "a@example.org", "b@example.org"
    message.set_content(text)
    message.add_alternative(f"<p>{text}</p>", subtype="html")
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.login("alerts", "secret")
        client.send_message(message)


def post(port: int, path: str, body: Any) -> int:
    url = f"http://127.0.0.1:{port}/{path}"
    request = urllib.request.Request(url, data=json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


async def test_a_mail_is_kept_with_its_subject_and_its_text() -> None:
    async with listening() as sinks:
        await asyncio.to_thread(mail, sinks.mail_port, "[FIRING:1] ForebayDown", f"see {LINK}")
        await asyncio.to_thread(mail, sinks.mail_port, "[RESOLVED] ForebayDown", f"see {LINK}")
    fired, over = sinks.notices
    assert (fired.channel, fired.firing, over.firing) == (Channel.MAIL, True, False)
    assert (fired.says("ForebayDown"), over.says("ForebayDown")) == (True, False)
    assert fired.says("NotReady") is None


@pytest.mark.parametrize(
    ("path", "fired", "over", "status"),
    [
        ("slack", {"title": "[FIRING:1] ForebayDown"}, {"title": "[RESOLVED] ForebayDown"}, 200),
        ("pagerduty", {"event_action": "trigger"}, {"event_action": "resolve"}, 202),
        ("webhook", {"status": "firing"}, {"status": "resolved"}, 200),
    ],
)
async def test_each_web_receiver_knows_a_fault_from_its_end(
    path: str, fired: Any, over: Any, status: int
) -> None:
    async with listening() as sinks:
        for body in (fired, over):
            wish = {**body, "text": f"ForebayDown {LINK}"}
            assert await asyncio.to_thread(post, sinks.web_port, path, wish) == status
    assert [notice.firing for notice in sinks.notices] == [True, False]
    found = sinks.first("ForebayDown", Channel(path), firing=True, after=0.0)
    assert found is sinks.notices[0]
    assert sinks.first("ForebayDown", Channel(path), firing=True, after=found.at + 1) is None


async def test_a_message_for_nobody_is_refused() -> None:
    async with listening() as sinks:
        assert await asyncio.to_thread(post, sinks.web_port, "nowhere", {}) == 404
    assert not sinks.notices


def test_a_message_without_its_runbook_does_not_count() -> None:
    sinks = Sinks()
    sinks.keep(Channel.SLACK, "ForebayDown fires", firing=True)
    assert sinks.first("ForebayDown", Channel.SLACK, firing=True, after=0.0) is None


def test_a_digest_tells_of_each_alert_by_itself() -> None:
    sinks = Sinks()
    told = "ForebayDown (page), resolved /runbooks/ForebayDown.md"
    told += " NotReady (page), firing /runbooks/NotReady.md"
    sinks.keep(Channel.MAIL, f"[FIRING 1] {told}", firing=True)
    (digest,) = sinks.notices
    assert (digest.says("ForebayDown"), digest.says("NotReady")) == (False, True)
