"""What the process says of its models and its routes."""

from forebay.serve import screening
from forebay.telemetry import guard_catalogue
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.readings import BookReading, ModelReading, ServerReading
from tests.support.records import a_completed
from tests.unit.telemetry.test_metrics import FakeLane, page, value


def test_a_model_says_how_it_stands_in_memory() -> None:
    metrics = Metrics(["m"])
    facts = ModelReading(loaded=True, memory_bytes=1_000, load_s=2.5, hits=7, misses=3, failures=1)
    metrics.watch_server(lambda: ServerReading(models={"m": facts}))
    assert value(metrics, "llm_model_loaded", model="m") == 1
    assert value(metrics, "llm_model_memory_bytes", model="m") == 1_000
    assert value(metrics, "llm_model_load_seconds", model="m") == 2.5
    assert value(metrics, "llm_model_requests_total", model="m", result="hit") == 7
    assert value(metrics, "llm_model_requests_total", model="m", result="miss") == 3
    assert value(metrics, "llm_model_load_failures_total", model="m") == 1


def test_a_route_says_where_its_callers_come_to() -> None:
    metrics = Metrics(["m"])
    shares = {("chat", "old"): 0.9, ("chat", "new"): 0.1}
    metrics.watch_server(lambda: ServerReading(shares=shares, shadows_dropped=4))
    assert 'llm_route_share_ratio{model="new",name="chat"} 0.1' in page(metrics)
    assert value(metrics, "llm_shadow_dropped_total") == 4


def test_refusals_are_counted_by_whose_limit_it_was_and_of_what() -> None:
    metrics = Metrics(["m"])
    assert value(metrics, "llm_rate_limited_total", level="key", unit="tokens") == 0
    refusals = {("key", "tokens"): 3, ("address", "requests"): 2}
    metrics.watch_server(lambda: ServerReading(rate_limited=refusals, limits_alone=True))
    assert value(metrics, "llm_rate_limited_total", level="key", unit="tokens") == 3
    assert value(metrics, "llm_rate_limited_total", level="address", unit="requests") == 2
    assert value(metrics, "llm_rate_limited_total", level="user", unit="concurrent") == 0
    assert value(metrics, "llm_limits_degraded") == 1


def test_the_books_say_what_is_held_and_what_is_not_written() -> None:
    metrics = Metrics(["m"])
    books = BookReading(reserved_tokens=55, rows_pending=3, rows_lost=2, overruns=1, away=True)
    metrics.watch_server(lambda: ServerReading(books=books))
    assert value(metrics, "llm_budget_tokens_held") == 55
    assert value(metrics, "llm_usage_rows_waiting") == 3
    assert value(metrics, "llm_usage_rows_lost_total") == 2
    assert value(metrics, "llm_budget_overruns_total") == 1
    assert value(metrics, "llm_books_degraded") == 1


def test_logins_and_refused_tokens_are_counted_by_how_and_why() -> None:
    metrics = Metrics(["m"])
    assert value(metrics, "llm_logins_total", result="wrong") == 0
    reading = ServerReading(logins={"wrong": 3}, tokens_refused={"expired": 2, "of tomorrow": 1})
    metrics.watch_server(lambda: reading)
    assert value(metrics, "llm_logins_total", result="wrong") == 3
    assert value(metrics, "llm_tokens_refused_total", reason="expired") == 2
    assert value(metrics, "llm_tokens_refused_total", reason="unknown") == 1


def test_a_lane_that_is_closed_is_read_no_more_and_a_new_name_is_counted() -> None:
    metrics, lane = Metrics(["m"]), FakeLane()
    metrics.watch("m", lane, lane)
    metrics.unwatch("m")
    assert "llm_requests_running{" not in page(metrics)
    metrics.know("m:v2")
    metrics(a_completed(model="m:v2"))
    labels = {"route": "chat_completions", "model": "m:v2", "outcome": "ok"}
    assert value(metrics, "llm_requests_total", **labels) == 1


def test_names_without_end_are_counted_together_beyond_a_bound() -> None:
    metrics = Metrics(["m"])
    for number in range(2_000):
        metrics.know(f"m:v{number}")
    metrics(a_completed(model="m:v1999"))
    assert value(metrics, "llm_answers_total", model="unknown", source="engine") == 1


def test_what_the_guard_did_is_counted_by_action_and_reason() -> None:
    metrics = Metrics(["m"])
    assert value(metrics, "llm_guard_total", action="passed", reason="clean") == 0
    guarded = {("flagged", "override"): 3, ("passed", "clean"): 9}
    metrics.watch_server(lambda: ServerReading(guarded=guarded))
    assert value(metrics, "llm_guard_total", action="flagged", reason="override") == 3
    assert value(metrics, "llm_guard_total", action="passed", reason="clean") == 9


def test_the_guards_labels_are_those_that_it_counts_by() -> None:
    assert guard_catalogue.GUARD_ACTIONS == screening.ACTIONS
    assert set(guard_catalogue.GUARD_REASONS) == set(screening.REASONS)
