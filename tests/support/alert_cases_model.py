"""Cases of the alerts of models, workers, the door and the cache; see `alert_case.py`."""

from typing import Final

from tests.support.alert_case import Case, Scraped, Series

_OF_LANE: Final = {"instance": "a:8000", "model": "m"}
_LANE: Final = Scraped(_OF_LANE)
_SERVER: Final = Scraped({"instance": "a:8000"})


def _errors(upto: dict[str, float]) -> Series:
    name = "llm_ttft_forecast_error_seconds"
    # As the page has it: with buckets below 0 there is neither count nor sum.
    whole = _LANE.histogram(name, upto)
    return {series: values for series, values in whole.items() if f"{name}_bucket" in series}


def _cache(hits: str, misses: str) -> Series:
    return {
        **_SERVER.goes("llm_cache_requests_total", hits, result="hit"),
        **_SERVER.goes("llm_cache_requests_total", misses, result="miss"),
        **_SERVER.goes("llm_cache_requests_total", "0+500x400", result="bypass"),
    }


MODEL_CASES: Final = (
    Case(
        alert="WorkerCrashLoop",
        about="three within a quarter of an hour",
        series=_LANE.goes(
            "llm_worker_restarts_total", "0+0x10 1 1 1 2 2 2 3+0x10", reason="exited"
        ),
        at="18m",
        labels=_OF_LANE,
        shown="3",
    ),
    Case(
        alert="WorkerCrashLoop",
        about="two within a quarter of an hour",
        series=_LANE.goes("llm_worker_restarts_total", "0+0x10 1 1 1 2+0x20", reason="exited"),
        at="18m",
    ),
    Case(
        alert="PoisonedRequests",
        about="one was found",
        series=_LANE.goes("llm_poisoned_requests_total", "0+0x10 1+0x30"),
        at="15m",
        labels={"model": "m"},
    ),
    Case(
        alert="PoisonedRequests",
        about="one was found long ago",
        series=_LANE.flat("llm_poisoned_requests_total", 1),
    ),
    Case(
        alert="ModelLoadFailures",
        about="a load failed",
        series=_LANE.goes("llm_model_load_failures_total", "0+0x10 1+0x30"),
        at="15m",
        labels=_OF_LANE,
        shown="1",
    ),
    Case(
        alert="ModelLoadFailures",
        about="every load succeeds",
        series={
            **_LANE.flat("llm_model_load_failures_total", 0),
            **_LANE.grows("llm_model_loads_seconds_count", 3),
        },
    ),
    Case(
        alert="Saturated",
        about="1.1 requests per place",
        series=_LANE.flat("llm_saturation_ratio", 1.1),
        labels=_OF_LANE,
        shown="1.1",
    ),
    Case(
        alert="Saturated",
        about="every place taken, nobody waits",
        series=_LANE.flat("llm_saturation_ratio", 1),
    ),
    Case(
        alert="ForecastOff",
        about="too hopeful by 3.5 s",
        series=_errors({"-2.0": 0, "2.0": 80, "5.0": 100}),
        labels={"model": "m"},
        shown="3.5",
    ),
    Case(
        alert="ForecastOff",
        about="too fearful by 3.5 s",
        series=_errors({"-5.0": 0, "-2.0": 20, "2.0": 100}),
        labels={"model": "m"},
        shown="-3.5",
    ),
    Case(
        alert="ForecastOff",
        about="nine of ten within two seconds",
        series=_errors({"-5.0": 0, "-2.0": 9, "2.0": 91, "5.0": 100}),
    ),
    Case(
        alert="ForecastOff",
        about="far off, for fifteen requests in a quarter of an hour",
        series=_errors({"2.0": 0, "5.0": 1}),
    ),
    Case(
        alert="LedgerBroken",
        about="one request too many for over a minute",
        series=_SERVER.goes("llm_ledger_imbalance", "0+0x10 1+0x10"),
        at="13m",
        labels={"instance": "a:8000"},
        shown="1",
    ),
    Case(
        alert="LedgerBroken",
        about="seen once, in the midst of an ending",
        series=_SERVER.goes("llm_ledger_imbalance", "0+0x10 1 0+0x10"),
        at="12m",
    ),
    Case(
        alert="CacheCollapse",
        about="six of ten were found, now two",
        series=_cache("0+60x340 20400+20x60", "0+40x340 13600+80x60"),
        at="375m",
        looked="5m",
        labels={},
        shown="20%",
    ),
    Case(
        alert="CacheCollapse",
        about="six of ten were found, now more than half of that",
        series=_cache("0+60x340 20400+32x60", "0+40x340 13600+68x60"),
        at="375m",
        looked="5m",
    ),
    Case(
        alert="CacheCollapse",
        about="nothing is found, of 45 in a quarter of an hour",
        series=_cache("0+60x340 20400+0x60", "0+40x340 13600+3x60"),
        at="375m",
        looked="5m",
    ),
    Case(
        alert="CacheCollapse",
        about="it never served more than one in twelve",
        series=_cache("0+8x340 2720+1x60", "0+92x340 31280+99x60"),
        at="375m",
        looked="5m",
    ),
)
