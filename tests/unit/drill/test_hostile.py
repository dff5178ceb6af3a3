"""What sends hostile requests sees every fault that it is there to see."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from forebay.bench.client import Target
from forebay.drill import hostile_mutations, hostile_smuggling
from forebay.drill.hostile_case import Case, Going, Kind, request
from forebay.drill.hostile_cases import Cases
from forebay.drill.hostile_reply import Reply, Unreadable, faults, replies
from forebay.drill.hostile_schema import Bodies
from forebay.drill.hostile_sender import Sender
from forebay.gateway.documents import openapi

DETAIL = {"message": "Wrong.", "type": "t", "param": None, "code": "invalid_request"}
PROBLEM = {
    "type": "about:blank",
    "title": "t",
    "status": 400,
    "detail": "Wrong.",
    "code": "invalid_request",
    "request_id": "1",
}


def case(**fields: Any) -> Case:
    given: dict[str, Any] = {"number": 1, "kind": Kind.SCHEMA, "sent": b""}
    return Case(**(given | fields))


def answer(status: int, body: dict[str, Any], **headers: str) -> Reply:
    kind = "application/json" if "error" in body else "application/problem+json"
    return Reply(
        status=status, headers={"content-type": kind} | headers, body=json.dumps(body).encode()
    )


def openai(status: int = 400, **fields: Any) -> Reply:
    return answer(status, {"error": DETAIL | fields})


def problem(status: int = 400, **fields: Any) -> Reply:
    return answer(status, PROBLEM | {"status": status} | fields)


@pytest.mark.parametrize(
    "reply",
    [
        openai(),
        problem(),
        openai(503, code="overloaded"),
        problem(504, code="deadline_exceeded"),
        Reply(status=405, headers={}, body=b""),
        Reply(status=200, headers={"content-type": "text/plain"}, body=b"anything"),
        Reply(status=400, headers={}, body=b"<html><center>nginx</center>"),
    ],
)
def test_our_answers_have_no_fault(reply: Reply) -> None:
    assert not list(faults(case(), [reply], closed=True))


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (openai(500, code="internal_error"), "undeliberate"),
        (openai(502, code="engine_error"), "undeliberate"),
        (Reply(status=500, headers={}, body=b"Internal Server Error"), "no shape"),
        (answer(400, {"detail": "Not Found"}), "no shape"),
        (answer(400, {"error": {"message": "m"}}), "no shape"),
        (openai(message=""), "no shape"),
        (openai(message="x" * 2_000), "no shape"),
        (problem(status=400, detail=""), "no shape"),
        (answer(422, PROBLEM), "no shape"),
        (openai(message="File /usr/lib/x.py"), "tells"),
        (openai(message="<class 'KeyError'>"), "tells"),
        (openai(message="Traceback (most"), "tells"),
        (answer(400, {"error": DETAIL}, **{"x-injected-by": "me"}), "a header"),
        (Reply(status=307, headers={}, body=b""), "never send"),
        (Reply(status=502, headers={}, body=b"<center>nginx</center>"), "nginx"),
    ],
)
def test_a_fault_of_an_answer_is_seen(reply: Reply, word: str) -> None:
    assert word in " ".join(faults(case(), [reply], closed=False))


def test_the_shape_belongs_to_the_path() -> None:
    assert not list(faults(case(path="/v1/models"), [openai()], closed=False))
    assert list(faults(case(path="/v1/models"), [problem()], closed=False))
    assert list(faults(case(path="/generate"), [openai()], closed=False))


def test_an_answer_too_many_is_seen() -> None:
    assert list(faults(case(replies_max=1), [openai(), openai()], closed=False))


def test_an_impostor_that_is_served_is_seen_where_the_server_is_closed() -> None:
    served = [Reply(status=200, headers={}, body=b"{}")]
    assert list(faults(case(impostor=True), served, closed=True))
    assert not list(faults(case(impostor=True), served, closed=False))


def test_answers_are_read_one_after_another() -> None:
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    first = b"HTTP/1.1 100 Continue\r\n\r\n"
    found, rest = replies(first + whole + chunked + whole[:-1], headless=False)
    assert [each.body for each in found] == [b"ok", b"abc"]
    assert rest == whole[:-1]


def test_an_answer_to_a_head_has_a_length_and_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n"
    found, rest = replies(head + head, headless=True)
    assert [each.body for each in found] == [b"", b""]
    assert not rest


@pytest.mark.parametrize(
    "seen",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_said_so(seen: bytes) -> None:
    with pytest.raises(Unreadable):
        replies(seen, headless=False)


def test_a_seed_and_a_number_make_a_case_again_and_no_other() -> None:
    bodies = Bodies(openapi(["scripted"]))
    one, again, other = Cases(1, bodies), Cases(1, bodies), Cases(2, bodies)
    assert [one.case(number) for number in range(200)] == list(again.each(range(200)))
    assert list(one.each(range(200))) != list(other.each(range(200)))
    assert {each.kind for each in one.each(range(200))} == set(Kind)
    assert {each.going for each in one.each(range(200))} == set(Going)


def test_each_mutation_changes_a_request() -> None:
    whole = request("/v1/completions", b'{"prompt":"a"}')
    for mutation in hostile_mutations.MUTATIONS:
        changed = {mutation(random.Random(seed), whole) for seed in range(40)}
        assert len(changed - {whole}) >= 1, mutation.__name__


def test_each_smuggled_request_holds_a_second_one() -> None:
    corpus = list(hostile_smuggling.corpus(7))
    assert len({sent for _, sent in corpus}) >= 100
    for name, sent in corpus:
        first, _, rest = sent.partition(b"\r\n\r\n")
        assert hostile_smuggling.inner(7) in rest, name
        assert b"smuggled" not in first, name


def test_bodies_are_drawn_for_every_path_that_takes_one() -> None:
    bodies = Bodies(openapi(["scripted"]))
    drawn = [bodies.draw(random.Random(seed)) for seed in range(2_000)]
    paths = {path for path, _ in drawn}
    assert paths == {path for path, _ in bodies.operations} >= {"/v1/completions", "/generate"}
    assert not any(path.startswith("/admin/models/") for path in paths)
    for _, body in drawn:
        json.loads(body)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(told: bytes, *, answers: int = 1) -> AsyncIterator[Target]:
    """Run a server that says the same to whatever comes, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(told * answers)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target(host="127.0.0.1", port=server.sockets[0].getsockname()[1])


async def test_a_server_that_fails_is_seen_with_what_was_sent() -> None:
    told = b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nbad"
    async with answering(told) as target:
        sender = Sender(target)
        await sender.work(iter([case(sent=request("/v1/models", b"", method="GET"))]))
    assert sender.statuses == {"500": 1}
    (fault,) = sender.kept
    assert fault.number == 1
    assert "GET /v1/models" in fault.sent
    assert "bad" in fault.seen


async def test_a_server_that_serves_a_second_request_is_seen_unless_a_proxy_stands_before() -> None:
    told = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    async with answering(told, answers=2) as target:
        direct, through = Sender(target), Sender(target, proxied=True)
        for sender in (direct, through):
            await sender.work(iter([case(sent=b"x", replies_max=1)]))
    assert direct.wrong.total() == 1
    assert not through.wrong


async def test_a_server_that_says_garbage_is_seen() -> None:
    async with answering(b"no HTTP\r\n\r\n") as target:
        sender = Sender(target)
        await sender.work(iter([case(sent=b"x")]))
    assert "not an answer" in next(iter(sender.wrong))
