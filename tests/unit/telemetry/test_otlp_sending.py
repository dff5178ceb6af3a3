import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from forebay.telemetry import otlp_sending
from forebay.telemetry.otlp_sending import BATCH_MAX, Sender


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_sending, "FLUSH_S", 0.001)


class Sending:
    """A sender, what was delivered, and what it told the log."""

    def __init__(self, deliver: Callable[[list[int]], bool] | None = None, **more: Any) -> None:
        self.delivered: list[int] = []
        self.batches: list[int] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.given_up = threading.Event()
        self.sender: Sender[int] = Sender(
            "traces",
            deliver or self._deliver,
            lambda event, /, **fields: self.events.append((event, fields)),
            give_up=self.given_up.set,
            **({"queue_max": 1_000} | more),
        )

    def _deliver(self, batch: list[int]) -> bool:
        self.delivered += batch
        self.batches.append(len(batch))
        return True

    def settle(self) -> None:
        ends = time.monotonic() + 5
        while self.sender.waiting and time.monotonic() < ends:
            time.sleep(0.001)


def test_what_is_put_in_is_delivered_in_order_and_counted() -> None:
    sending = Sending()
    for n in range(200):
        sending.sender.put(n)
    sending.sender.start()
    sending.sender.stop(5.0)
    assert sending.delivered == list(range(200))
    assert max(sending.batches) == BATCH_MAX
    assert (sending.sender.sent, sending.sender.dropped) == (200, 0)
    assert sending.events == []


def test_a_full_queue_drops_the_newest_and_counts_them() -> None:
    sending = Sending(queue_max=16)
    for n in range(20):
        sending.sender.put(n)
    assert (sending.sender.waiting, sending.sender.dropped) == (16, 4)
    sending.sender.start()
    sending.sender.stop(5.0)
    assert sending.delivered == list(range(16))


def test_what_does_not_arrive_is_counted_and_told_once_and_so_is_the_end_of_it() -> None:
    works = False
    sending = Sending(lambda _: works)
    sending.sender.start()
    for n in range(3):
        sending.sender.put(n)
        sending.settle()
    works = True
    sending.sender.put(4)
    sending.settle()
    sending.sender.stop(5.0)
    assert (sending.sender.sent, sending.sender.dropped) == (1, 3)
    assert [event for event, _ in sending.events] == ["telemetry.lost", "telemetry.arrives"]
    assert sending.events[0][1]["sink"] == "traces"


def test_an_exporter_that_raises_loses_its_batch_and_the_next_one_is_delivered() -> None:
    arrived: list[int] = []

    def deliver(batch: list[int]) -> bool:
        if batch == [1]:
            raise KeyError("a secret")
        arrived.extend(batch)
        return True

    sending = Sending(deliver)
    sending.sender.start()
    for n in (1, 2):
        sending.sender.put(n)
        sending.settle()
    sending.sender.stop(5.0)
    assert arrived == [2]
    assert (sending.sender.sent, sending.sender.dropped) == (1, 1)
    assert sending.events[0][1]["error"] == "KeyError"
    assert "secret" not in str(sending.events)


def test_a_delivery_that_hangs_holds_the_end_for_no_longer_than_it_may() -> None:
    begun, free = threading.Event(), threading.Event()

    def hang(_: list[int]) -> bool:
        begun.set()
        free.wait(30.0)
        return False

    sending = Sending(hang)
    sending.sender.start()
    for n in range(100):
        sending.sender.put(n)
    assert begun.wait(5.0)
    started = time.monotonic()
    sending.sender.stop(0.05)
    assert time.monotonic() - started < 2.0
    assert sending.given_up.is_set()
    assert sending.sender.dropped == 100 - BATCH_MAX
    free.set()


def test_an_end_that_is_given_up_lets_the_thread_go_and_loses_what_was_left() -> None:
    sending = Sending()
    slow = sending.given_up

    def deliver(_: list[int]) -> bool:
        return not slow.wait(30.0)

    sending.sender = Sender(
        "traces", deliver, lambda *_, **__: None, queue_max=1_000, give_up=slow.set
    )
    for n in range(200):
        sending.sender.put(n)
    sending.sender.start()
    sending.sender.stop(0.05)
    assert (sending.sender.sent, sending.sender.dropped) == (0, 200)
