"""A page of metrics, read as Prometheus reads it."""

import pytest

from forebay.monitoring.samples import parsed

PAGE = """\
# HELP llm_requests Requests.
# TYPE llm_requests counter
llm_requests_total{model="a",outcome="ok"} 3.0
llm_requests_total{model="b",outcome="ok"} 2.0
# TYPE llm_reruns counter
llm_reruns_total 7.0
# TYPE llm_requests_running gauge
llm_requests_running{model="a"} 1.0
# EOF
"""


def test_values_are_summed_over_the_labels_that_are_not_named() -> None:
    page = parsed(PAGE)
    assert page.total("llm_requests_total") == 5
    assert page.total("llm_requests_total", model="a", outcome="ok") == 3
    assert page.total("llm_requests_total", model="c") == 0
    assert "llm_requests" in page.families


def test_what_moved_is_counters_alone_and_by_how_much_in_all() -> None:
    now = parsed(PAGE.replace("} 3.0", "} 4.0").replace("} 2.0", "} 4.0").replace("} 1.0", "} 9.0"))
    assert list(now.moved(parsed(PAGE))) == [("llm_requests_total", 3.0)]


@pytest.mark.parametrize("text", ["<html>", PAGE.removesuffix("# EOF\n"), "llm_x{ 1\n# EOF\n"])
def test_what_prometheus_would_not_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(text)
