"""Our pages for people: a browser runs what they are made of, and shows them in no frame."""

import base64
import hashlib
import re

import pytest

from tests.support.gateways import a_stage


def policy(found: str) -> dict[str, list[str]]:
    """Return a policy's directives."""
    return {words[0]: words[1:] for part in found.split(";") if (words := part.split())}


async def test_the_page_of_the_api_runs_its_own_scripts_and_no_other() -> None:
    answer = await a_stage().get("/docs")
    assert answer.status == 200
    rules = policy(answer.headers["content-security-policy"])
    page = answer.content
    scripts = re.findall(rb"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    inline = [text for attributes, text in scripts if b"src=" not in attributes]
    assert len(inline) == 1
    digest = base64.b64encode(hashlib.sha256(inline[0]).digest()).decode()
    assert rules["script-src"] == ["'self'", f"'sha256-{digest}'"]
    assert rules["default-src"] == rules["frame-ancestors"] == ["'none'"]
    for source in re.findall(rb'(?:src|href)="([^"]+)"', page):
        assert source.startswith(b"/"), "a page of ours asks nobody else"
    assert b" onload=" not in page


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/static/swagger-ui.css"])
async def test_pages_are_shown_in_no_frame_and_tell_no_one_where_they_are(path: str) -> None:
    headers = (await a_stage().get(path)).headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "unsafe-inline" not in headers["content-security-policy"].split("style-src")[0]
