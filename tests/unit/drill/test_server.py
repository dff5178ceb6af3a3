"""How figures are read from a server's pages."""

from pathlib import Path

import pytest

from forebay.bench.client import Target
from forebay.drill import server as servers
from forebay.drill.server import Server

PAGE = """\
# HELP llm_x Words.
llm_x_total{model="m",outcome="ok"} 3.0
llm_x_total{model="m",outcome="cancelled"} 2.0
llm_x_total_created{model="m"} 9.0
llm_wait_seconds_bucket{le="0.1",model="m"} 90.0
llm_wait_seconds_bucket{le="0.5",model="m"} 99.0
llm_wait_seconds_bucket{le="+Inf",model="m"} 100.0
llm_none_seconds_bucket{le="+Inf",model="m"} 0.0
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(servers, "page", lambda *_: (200, PAGE))
    nobody: object = None
    return Server(process=nobody, target=Target(host="h", port=1), log=Path("x"))  # type: ignore[arg-type] # no process is needed


def test_a_metric_is_summed_over_the_samples_that_carry_the_labels(server: Server) -> None:
    assert server.metric("llm_x_total") == 5.0
    assert server.metric("llm_x_total", outcome="ok") == 3.0
    assert server.metric("llm_y_total") == 0.0


@pytest.mark.parametrize(("share", "bound"), [(0.5, 0.1), (0.99, 0.5), (1.0, float("inf"))])
def test_a_quantile_is_the_bound_of_its_bucket(server: Server, share: float, bound: float) -> None:
    assert server.quantile("llm_wait_seconds", share) == bound


def test_nothing_has_no_quantile(server: Server) -> None:
    assert server.quantile("llm_none_seconds", 0.99) is None
    assert server.quantile("llm_absent_seconds", 0.99) is None
