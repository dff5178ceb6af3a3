"""Row 16, caches across tenants: what one was answered serves no other, and tells it nothing.

The class: keys of caches that leave something out, or collide.  What is kept in the engine's own
prefix cache is another matter: SECURITY.md says so.
"""

import re
from dataclasses import replace
from typing import Any

import pytest

from forebay.core.caller import RIGHTS, Caller, Role
from forebay.core.request import RequestId
from forebay.serve import keys as naming
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, Stage, a_stage, chat, keys

ANN = Caller(tenant="acme", user="ann", rights=RIGHTS[Role.USER])
BOB = replace(ANN, tenant="bobs", user="bob")
EVE = replace(ANN, user="eve")
"""Of the same tenant as Ann."""


@pytest.fixture
async def stage() -> Stage:
    return a_stage(credentials=keys({"ann": ANN, "bob": BOB, "eve": EVE}))


async def asks(stage: Stage, who: str, **headers: str) -> Exchange:
    body = chat(temperature=0, seed=1)
    return await ask(stage.gateway, "POST", CHAT, body, authorization=f"Bearer {who}", **headers)


async def test_a_repeatable_answer_serves_no_other_tenant(stage: Stage) -> None:
    for who in ("ann", "bob"):
        assert (await asks(stage, who, cache_control="max-age=60")).status == 200
    assert [request.tenant for request in stage.engine.asked] == ["acme", "bobs"]


async def test_an_idempotency_key_of_one_tenant_is_another_one_of_the_next(stage: Stage) -> None:
    for who in ("ann", "bob"):
        answer = await asks(stage, who, idempotency_key="the-same")
        assert answer.status == 200
        assert "idempotent-replayed" not in answer.headers
    assert len(stage.engine.asked) == 2


async def test_a_stream_is_read_on_by_its_own_tenant_only(stage: Stage) -> None:
    body = chat(stream=True)
    headers = {"idempotency_key": "k", "authorization": "Bearer ann"}
    first = await ask(stage.gateway, "POST", CHAT, body, **headers)
    path = f"/v1/streams/{re.findall(r'chatcmpl-[0-9a-f]+', first.content.decode())[0]}"
    assert (await stage.get(path, authorization="Bearer bob")).status == 404
    assert (await stage.get(path, authorization="Bearer ann")).status == 200


async def test_a_tenant_cannot_name_itself(stage: Stage) -> None:
    """The tenant is the account's, whatever headers and fields say."""
    names: dict[str, Any] = {"user": "acme", "metadata": {"tenant": "acme"}}
    body = chat() | {"user": names["user"]}
    headers = {"x_tenant": "acme", "x_forwarded_user": "ann", "x_tenant_id": "acme"}
    await ask(stage.gateway, "POST", CHAT, body, authorization="Bearer bob", **headers)
    assert [request.tenant for request in stage.engine.asked] == ["bobs"]


def test_names_of_kept_answers_do_not_collide_by_how_their_parts_are_joined() -> None:
    """Parts that run into each other are, in effect, a weak hash."""
    found = {
        naming.owner_of(RequestId(completion), tenant)
        for completion, tenant in (
            *(("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"), ("a:b", "c"), ("a", "b:c")),
            *(("a\x00b", "c"), ("a", "\x00bc"), ("a|b", "c"), ("a", "b|c"), ("a/b", "c")),
        )
    }
    assert len(found) == 11
