"""What the log is to Elasticsearch and Kibana: types of fields, and what charts ask."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

DEPLOY: Final = Path(__file__).parents[2] / "deploy" / "monitoring"
BUCKET_S: Final = "1m"
"""What Kibana makes of an interval called `auto` over a quarter of an hour, about."""
BUCKET: Final = 10.0


def template() -> dict[str, Any]:
    """Return the index template."""
    text = (DEPLOY / "elasticsearch" / "index-template.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def field_types(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each field of a mapping by its whole name, with its type."""
    for name, facts in properties.items():
        if "properties" in facts:
            yield from field_types(facts["properties"], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", facts["type"]


def saved_objects() -> list[dict[str, Any]]:
    """Return Kibana's saved objects, in order."""
    lines = (DEPLOY / "kibana" / "forebay.ndjson").read_text().splitlines()
    return [json.loads(line) for line in lines]


def charts() -> dict[str, list[dict[str, Any]]]:
    """Return the aggregations of each chart, by its title."""
    states = [
        json.loads(each["attributes"]["visState"])
        for each in saved_objects()
        if each["type"] == "visualization"
    ]
    return {state["title"]: state["aggs"] for state in states}


def search_of(aggregations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the search that Kibana makes of a chart: buckets in buckets, figures innermost."""
    metrics: dict[str, Any] = {}
    buckets = []
    for each in aggregations:
        assert each["enabled"]
        if each["schema"] != "metric":
            buckets.append((each["id"], _bucket(each)))
        elif each["type"] != "count":  # every bucket has its count
            params = {name: each["params"][name] for name in ("field", "percents")}
            metrics[each["id"]] = {each["type"]: params}
    inner = metrics
    for id_, bucket in reversed(buckets):
        inner = {id_: bucket | ({"aggs": inner} if inner else {})}
    kept = {"term": {"event.dataset": "forebay.request"}}
    return {"size": 0, "query": {"bool": {"filter": [kept]}}, "aggs": inner}


def _bucket(each: Mapping[str, Any]) -> dict[str, Any]:
    params = each["params"]
    match each["type"]:
        case "date_histogram":
            return {"date_histogram": {"field": params["field"], "fixed_interval": BUCKET_S}}
        case "histogram":
            return {"histogram": {"field": params["field"], "interval": BUCKET, "min_doc_count": 1}}
        case "terms":
            return {"terms": {"field": params["field"], "size": params["size"]}}
        case "filters":
            chosen = {
                one["label"]: {"query_string": {"query": one["input"]["query"]}}
                for one in params["filters"]
            }
            return {"filters": {"filters": chosen}}
    raise AssertionError(each["type"])
