"""What the overload drill makes of samples."""

from dataclasses import replace

import pytest

from forebay.bench.open_loop import Sent
from forebay.drill.generator import Made
from forebay.drill.overload import Pace, Peak, gates_of, goodput, measured, recovery_s

PACE = Pace(capacity_s=1.0, before_s=1.0, load_s=10.0, after_s=5.0)


def served(due: float, *, ttft_s: float = 0.1, wave: str = "overload") -> Sent:
    first = due + ttft_s
    return Sent(wave=wave, due=due, sent=due, first=first, ended=first + 0.1, status=200, ok=True)


def refused(due: float, *, after_s: float = 0.01, wave: str = "overload") -> Sent:
    gone = replace(served(due, wave=wave), first=None, ended=due + after_s, status=503, ok=False)
    return replace(gone, retry_after_ms=500)


def made(*samples: Sent) -> Made:
    return Made(samples=samples, cpu_s=1.0, wall_s=10.0)


def test_goodput_counts_what_was_served_well_within_the_window() -> None:
    samples = [served(1.0), served(1.5, ttft_s=3.0), refused(2.0), served(11.0)]
    assert goodput(samples, 0.0, 10.0) == pytest.approx(0.1)


def test_a_request_at_the_edge_of_the_window_counts_for_the_share_inside() -> None:
    samples = [served(-0.05, ttft_s=0.1), served(9.9, ttft_s=0.3)]
    assert goodput(samples, 0.0, 10.0) == pytest.approx((0.75 + 0.25) / 10.0)


def test_latency_counts_from_when_a_request_was_due() -> None:
    late = replace(refused(2.0), sent=3.0, ended=3.01)
    found = measured(made(late, served(2.0)), PACE, Peak(per_s=1.0, hands=1))
    assert found["refusal_ms"]["p99"] == pytest.approx(1_010.0)
    assert found["generator"]["late_sends"] == 1


def test_an_answer_that_is_neither_served_nor_refused_fails_its_gate() -> None:
    cut = replace(served(2.0), ok=False, error="the server closed the connection")
    found = measured(made(cut), PACE, Peak(per_s=1.0, hands=1))
    gate = gates_of(3, found)[-1]
    assert gate.measured == 1
    assert not gate.passed


def test_a_retry_counts_only_as_a_retry() -> None:
    back = replace(served(3.0), retry=True)
    found = measured(made(refused(2.0), back), PACE, Peak(per_s=1.0, hands=1))
    assert found["retries"] == 1
    assert found["retries_ok_share"] == 1.0


def probes(*after: Sent) -> list[Sent]:
    return [served(0.5, wave="probes"), *after]


def test_it_has_recovered_after_the_last_probe_that_was_not_as_before() -> None:
    slow, fine = served(12.5, ttft_s=0.5, wave="probes"), served(13.0, wave="probes")
    assert recovery_s(probes(served(11.5, wave="probes"), slow, fine), PACE) == pytest.approx(1.5)
    assert recovery_s(probes(fine), PACE) == 0.0


def test_it_has_not_recovered_while_the_last_probe_is_refused() -> None:
    gone = refused(15.0, wave="probes")
    assert recovery_s(probes(served(13.0, wave="probes"), gone), PACE) is None
