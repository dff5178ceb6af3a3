"""Threads that ask what blocks: few, with a bounded queue before them."""

import asyncio
import threading

import pytest

from forebay.core.errors import Overloaded
from forebay.serve.clerks import Clerks


async def test_so_many_questions_are_taken_and_not_one_more_until_one_is_answered() -> None:
    clerks, answers = Clerks(threads=1, asked_max=2), threading.Event()
    asked = [clerks.ask(lambda: answers.wait(5)) for _ in range(2)]
    with pytest.raises(Overloaded) as refused:
        clerks.ask(lambda: None)
    assert refused.value.retry_after_s == 1.0
    answers.set()
    assert await asyncio.gather(*asked) == [True, True]
    assert await clerks.ask(lambda: "again") == "again"
    clerks.close()


async def test_who_gives_up_waiting_frees_a_place_only_once_the_work_is_done() -> None:
    clerks, answers = Clerks(threads=1, asked_max=2), threading.Event()
    running, waiting = clerks.ask(lambda: answers.wait(5)), clerks.ask(lambda: None)
    for given_up in (running, waiting):
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
    with pytest.raises(Overloaded):
        clerks.ask(lambda: None)
    answers.set()
    async with asyncio.timeout(5):
        while clerks._asked:
            await asyncio.sleep(0)
    assert await clerks.ask(lambda: "again") == "again"
    clerks.close()


async def test_a_question_that_fails_frees_its_place_and_tells_who_asked() -> None:
    clerks = Clerks(threads=1, asked_max=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await clerks.ask(lambda: 1 // 0)
    clerks.close()


async def test_at_the_end_nothing_new_is_begun() -> None:
    clerks, answers, begun = Clerks(threads=1, asked_max=8), threading.Event(), list[int]()
    first = clerks.ask(lambda: answers.wait(5))
    second = clerks.ask(lambda: begun.append(1))
    clerks.close()
    answers.set()
    assert await first
    await asyncio.gather(second, return_exceptions=True)
    assert second.cancelled()
    assert not begun
