"""Workers that do not start: `start` says why, in bounded time, and leaves nothing behind."""

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError
from forebay.engine.supervisor import State, Supervisor, SupervisorConfig, WorkerSpec
from tests.support.events import EventList
from tests.support.stub_workers import use_stub
from tests.support.supervised import (
    Kept,
    a_supervisor,
    answer,
    entries,
    lives,
    now_request,
    of_process,
    supervised,
    until,
)


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sockets are made in here, so that what is left behind is seen.

    Its path is short: a socket's may have 107 bytes, and `tmp_path` holds the test's whole name.
    """
    with tempfile.TemporaryDirectory(prefix="start-") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield Path(place)


async def failed_start(supervisor: Kept | Supervisor) -> str:
    with pytest.raises(EngineError) as caught:
        await supervisor.start()
    assert supervisor.state is State.STOPPED
    with pytest.raises(EngineError):
        await anext(supervisor.generate(now_request("hello")))
    return caught.value.message


async def test_an_engine_that_is_not_there_is_named_with_those_that_are(folders: Path) -> None:
    spec = WorkerSpec(engine="dreamt", options={}, model=None)
    supervisor = Supervisor(spec, SupervisorConfig(), now=MONOTONIC, log=EventList())
    message = await failed_start(supervisor)
    assert "dreamt" in message
    assert "scripted" in message
    assert not entries(folders)


async def test_options_that_the_engine_does_not_take_are_refused() -> None:
    message = await failed_start(a_supervisor(options={"decode_s": "soon"}))
    assert "options" in message


async def test_a_worker_that_ends_while_starting_is_tried_a_few_times(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(monkeypatch, tmp_path, "print('no luck today'); sys.exit(3)")
    log = EventList()
    message = await failed_start(a_supervisor(log=log, starts_max=3))
    assert "attempts: 3" in message
    assert [fields["status"] for fields in log.named("worker.ended")] == [3, 3, 3]
    assert [fields["line"] for fields in log.named("worker.output")] == ["no luck today"] * 3
    assert not entries(folders)


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(60)",
        "its = connect(); time.sleep(60)",
        "its = connect(); greet(its); time.sleep(60)",
    ],
    ids=["never connects", "never greets", "never ready"],
)
async def test_a_worker_that_takes_for_ever_to_start_is_ended(
    body: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(monkeypatch, tmp_path, body)
    supervisor = a_supervisor(start_s_max=1.0, starts_max=1, stop_s_max=0.1)
    assert "attempts: 1" in await failed_start(supervisor)
    assert not entries(folders)


@pytest.mark.parametrize(
    "body",
    [
        "its = connect(); its.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n'); time.sleep(60)",
        "its = connect(); its.sendall(frame(Hello(1, PROTOCOL_VERSION))); time.sleep(60)",
        "its = connect(); its.sendall(frame(Hello(os.getpid(), 99))); time.sleep(60)",
        "its = connect(); greet(its); its.close(); time.sleep(60)",
    ],
    ids=["garbage", "another pid", "another protocol", "closes the socket"],
)
async def test_a_worker_that_talks_nonsense_is_ended_at_once(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(monkeypatch, tmp_path, body)
    started = MONOTONIC()
    await failed_start(a_supervisor(starts_max=1))
    assert MONOTONIC() - started < 10.0


async def test_a_process_that_was_not_started_here_cannot_be_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(
        monkeypatch,
        tmp_path,
        """
        if os.fork():
            time.sleep(60)
        its = connect()
        refused = its.recv(1) == b""
        print("refused" if refused else "taken", flush=True)
        """,
    )
    log = EventList()
    await failed_start(a_supervisor(log=log, start_s_max=1.5, starts_max=1, stop_s_max=0.1))
    assert [fields["line"] for fields in log.named("worker.output")] == ["refused"]


async def test_an_engine_that_makes_no_token_has_not_started() -> None:
    supervisor = a_supervisor(options={"prefill_s": 60.0}, start_s_max=1.0)
    assert "no token" in await failed_start(supervisor)


async def test_restarts_that_fail_are_tried_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with supervised() as supervisor:
        with monkeypatch.context() as meanwhile:
            use_stub(meanwhile, tmp_path, "sys.exit(1)")
            waiting = asyncio.create_task(answer(supervisor, "!die", stream=False))
            await until(lambda: supervisor.restarts.get("start_failed", 0) >= 5)
            assert not supervisor.well(MONOTONIC())
            patient = asyncio.create_task(answer(supervisor, "hello", stream=False))
            await asyncio.sleep(0.1)
            assert not patient.done()
        assert await patient == "hello "
        with pytest.raises(EngineError):
            await waiting


async def test_a_system_that_starts_no_process_is_told_and_later_tried_again(
    monkeypatch: pytest.MonkeyPatch, folders: Path
) -> None:
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("forebay.engine.worker_process.sys.executable", "/no/such/python")
        assert "No such file" in await failed_start(a_supervisor())
    async with supervised() as supervisor:
        pid = supervisor.pid
        assert pid is not None
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(tempfile, "tempdir", str(folders / ("x" * 300)))
            os.kill(pid, signal.SIGKILL)
            await until(lambda: supervisor.restarts.get("start_failed", 0) >= 2)
        assert await answer(supervisor, "hello") == "hello "


async def test_a_start_can_be_cancelled_and_nothing_is_left(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "pid"
    use_stub(
        monkeypatch,
        tmp_path,
        f"open({str(note)!r}, 'w').write(str(os.getpid()) + '.')\ntime.sleep(60)",
    )
    supervisor = a_supervisor(stop_s_max=30.0)
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: note.exists() and note.read_text().endswith("."))
    starting.cancel()
    async with asyncio.timeout(10.0):  # it still loads: there is nothing that it could end well
        with contextlib.suppress(asyncio.CancelledError):
            await starting
    assert not lives(int(note.read_text()[:-1]))
    assert not entries(folders)


async def test_a_worker_that_talks_without_end_neither_blocks_nor_floods_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub(
        monkeypatch,
        tmp_path,
        """
        its = connect()
        for number in range(200_000):
            print("a line of some length", number)
        print("x" * 1_000_000)
        sys.stdout.flush()
        greet(its)
        its.sendall(frame(Fault(None, "engine_error", "The model is too shy.")))
        """,
    )
    log = EventList()
    assert await failed_start(a_supervisor(log=log, starts_max=1)) == "The model is too shy."
    lines = [str(fields["line"]) for fields in log.named("worker.output")]
    assert 0 < len(lines) < 5_000
    assert max(map(len, lines)) <= 2_000
    assert log.named("worker.output_dropped")


async def test_a_worker_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("FOREBAY_KEYS__PEPPER", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    supervisor = a_supervisor()
    await supervisor.start()
    try:
        environment, command = of_process(supervisor.pid, "environ", "cmdline")
    finally:
        await supervisor.stop()
    assert b"secret" not in environment + command
    assert b"OMP_NUM_THREADS=1" in environment
    assert os.environ["HF_TOKEN"] == "hf_secret"
