"""The log in Kibana: a data view, four charts and their dashboard, as one file to import.

They are saved objects in the form that Kibana 7.17 exports and later ones take.  Charts are of
the kind that is made of plain aggregations, so that what they ask can be asked without Kibana.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

INDEX: Final = "model-api-logs-*"
_DATA_VIEW: Final = "forebay-model-api-logs"
_DASHBOARD: Final = "forebay-requests"
_VERSION: Final = "7.17.0"
_SOURCE: Final = "kibanaSavedObjectMeta.searchSourceJSON.index"
_REQUESTS: Final = {"query": 'event.dataset: "forebay.request"', "language": "kuery"}
_WIDTH: Final = 24
_HEIGHT: Final = 15
"""Half of a dashboard's 48 columns, and as many of its rows as Kibana gives a new panel."""

Aggregation = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of requests' lines."""

    id: str
    title: str
    description: str
    shape: str
    """How Kibana draws it: line or histogram."""
    unit: str
    """What stands at its axis."""
    aggregations: tuple[Aggregation, ...]
    share: bool = False
    """Each column is a whole, of which its parts are shown in per cent."""


def _aggregation(kind: str, schema: str, /, **params: object) -> Aggregation:
    return {"enabled": True, "type": kind, "schema": schema, "params": params}


_OVER_TIME: Final = _aggregation(
    "date_histogram", "segment", field="@timestamp", interval="auto", min_doc_count=0
)
_COUNT: Final = _aggregation("count", "metric")


def _by_status(*classes: tuple[str, str]) -> Aggregation:
    chosen = [
        {
            "input": {"query": f"http.response.status_code:{range_}", "language": "lucene"},
            "label": label,
        }
        for label, range_ in classes
    ]
    return _aggregation("filters", "group", filters=chosen)


CHARTS: Final = (
    Chart(
        id="forebay-latency",
        title="Latency over time",
        description="From receipt to ending, in milliseconds: the median, p95 and p99.",
        shape="line",
        unit="ms",
        aggregations=(
            _aggregation("percentiles", "metric", field="latency_ms", percents=[50, 95, 99]),
            _OVER_TIME,
        ),
    ),
    Chart(
        id="forebay-volume",
        title="Request volume",
        description="Requests by route; those that were refused are among them.",
        shape="histogram",
        unit="requests",
        aggregations=(
            _COUNT,
            _OVER_TIME,
            _aggregation(
                "terms", "group", field="event.action", size=12, order="desc", orderBy="1"
            ),
        ),
    ),
    Chart(
        id="forebay-errors",
        title="Error rate",
        description="What share of requests failed by us (5xx) and by those who asked (4xx).",
        shape="histogram",
        unit="share of requests",
        share=True,
        aggregations=(
            _COUNT,
            _OVER_TIME,
            _by_status(
                ("server errors", "[500 TO 599]"),
                ("client errors", "[400 TO 499]"),
                ("answered", "[200 TO 399]"),
            ),
        ),
    ),
    Chart(
        id="forebay-throughput",
        title="Throughput distribution",
        description="Requests by the tokens that each was given per second of its own time.",
        shape="histogram",
        unit="requests",
        aggregations=(
            _COUNT,
            _aggregation(
                "histogram",
                "segment",
                field="throughput_tokens_per_sec",
                interval="auto",
                min_doc_count=1,
            ),
        ),
    ),
)
"""The four of the first source document."""


def saved_objects() -> str:
    """Return the file to import: a JSON object a line, what is referred to before who refers."""
    objects = [_data_view(), *map(_visualization, CHARTS), _dashboard(CHARTS)]
    return "".join(json.dumps(each, sort_keys=True) + "\n" for each in objects)


def _data_view() -> dict[str, Any]:
    return {
        "type": "index-pattern",
        "id": _DATA_VIEW,
        "attributes": {"title": INDEX, "timeFieldName": "@timestamp", "name": "Forebay's log"},
        "references": [],
        "coreMigrationVersion": _VERSION,
        "migrationVersion": {"index-pattern": "7.11.0"},
    }


def _visualization(chart: Chart) -> dict[str, Any]:
    numbered = [{"id": str(n), **each} for n, each in enumerate(chart.aggregations, start=1)]
    state = {"title": chart.title, "type": chart.shape, "aggs": numbered, "params": _drawn(chart)}
    source = {"query": _REQUESTS, "filter": [], "indexRefName": _SOURCE}
    return {
        "type": "visualization",
        "id": chart.id,
        "attributes": {
            "title": chart.title,
            "description": chart.description,
            "version": 1,
            "visState": json.dumps(state),
            "uiStateJSON": "{}",
            "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source)},
        },
        "references": [{"name": _SOURCE, "type": "index-pattern", "id": _DATA_VIEW}],
        "coreMigrationVersion": _VERSION,
        "migrationVersion": {"visualization": _VERSION},
    }


def _drawn(chart: Chart) -> dict[str, Any]:
    """Return how Kibana draws a chart with two axes."""
    mode = "stacked" if chart.shape == "histogram" else "normal"
    labels = {"show": True, "filter": True, "truncate": 100}
    return {
        "type": chart.shape,
        "grid": {"categoryLines": False},
        "categoryAxes": [
            {
                "id": "CategoryAxis-1",
                "type": "category",
                "position": "bottom",
                "show": True,
                "scale": {"type": "linear"},
                "labels": labels,
                "title": {},
                "style": {},
            }
        ],
        "valueAxes": [
            {
                "id": "ValueAxis-1",
                "name": "LeftAxis-1",
                "type": "value",
                "position": "left",
                "show": True,
                "scale": {"type": "linear", "mode": "percentage" if chart.share else "normal"},
                "labels": labels,
                "title": {"text": chart.unit},
                "style": {},
            }
        ],
        "seriesParams": [
            {
                "type": chart.shape,
                "mode": mode,
                "show": True,
                "showCircles": False,
                "drawLinesBetweenPoints": True,
                "interpolate": "linear",
                "lineWidth": 2,
                "valueAxis": "ValueAxis-1",
                "data": {"id": "1", "label": chart.unit},
            }
        ],
        "addTooltip": True,
        "addLegend": True,
        "legendPosition": "right",
        "times": [],
        "addTimeMarker": False,
        "labels": {"show": False},
    }


def _dashboard(charts: Sequence[Chart]) -> dict[str, Any]:
    panels, references = [], []
    for index, chart in enumerate(charts):
        row, column = divmod(index, 2)
        place = {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
        panels.append(
            {
                "version": _VERSION,
                "type": "visualization",
                "panelIndex": str(index),
                "gridData": {**place, "i": str(index)},
                "embeddableConfig": {"enhancements": {}},
                "panelRefName": f"panel_{index}",
            }
        )
        references.append(
            {"name": f"{index}:panel_{index}", "type": "visualization", "id": chart.id}
        )
    source = {"query": {"query": "", "language": "kuery"}, "filter": []}
    return {
        "type": "dashboard",
        "id": _DASHBOARD,
        "attributes": {
            "title": "Forebay: requests",
            "description": "The log: latency, volume, errors and throughput.",
            "version": 1,
            "timeRestore": True,
            "timeFrom": "now-24h",
            "timeTo": "now",
            "panelsJSON": json.dumps(panels),
            "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}),
            "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source)},
        },
        "references": references,
        "coreMigrationVersion": _VERSION,
        "migrationVersion": {"dashboard": _VERSION},
    }
