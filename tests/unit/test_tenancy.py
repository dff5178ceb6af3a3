"""What the closed mode is made of, put together."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay import tenancy as module
from forebay.accounts.people import NewKey
from forebay.core.errors import Overloaded
from forebay.tenancy import Tenancy
from scripts.route_access import closed_service


@pytest.fixture
def tenancy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tenancy]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with closed_service(tmp_path) as service:
        assert service.tenancy is not None
        yield service.tenancy


async def test_who_asks_long_questions_keeps_no_caller_from_being_found(tenancy: Tenancy) -> None:
    key = tenancy.directory.create_key(NewKey(user="admin"))[1]
    answers = threading.Event()
    clerks = (tenancy.archive, tenancy.office)
    asked = [each.ask(lambda: answers.wait(5)) for each in clerks for _ in range(4)]
    assert (await tenancy.credentials.find(key.encode())).user == "admin"
    assert not any(each.done() for each in asked)
    answers.set()
    assert all(await asyncio.gather(*asked))


async def test_when_keys_were_used_is_written_again_after_too_much_was_asked(
    tenancy: Tenancy, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, text = tenancy.directory.create_key(NewKey(user="admin"))
    await tenancy.credentials.find(text.encode())
    monkeypatch.setattr(module, "_USED_S", 0.0)
    with monkeypatch.context() as full:
        full.setattr(tenancy.office, "_asked_max", 0)
        with pytest.raises(Overloaded):
            tenancy.office.ask(lambda: None)
        noting = asyncio.create_task(tenancy._note_used())
        for _ in range(10):
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while tenancy.directory.key(key.id).last_used is None:
            await asyncio.sleep(0)
    noting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await noting
