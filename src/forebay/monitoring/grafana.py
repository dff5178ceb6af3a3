"""Dashboards as Grafana reads them, by its own SDK.

The SDK is needed to write them, never to serve: it is in the extra `dashboards`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from forebay.monitoring.panel import DATASOURCE, Dashboard, Kind, Panel, Query

_SOURCE: Final = DataSourceRef(type_val="prometheus", uid=DATASOURCE)
_COLUMNS: Final = 24
_HEIGHT: Final = 8
_GREEN, _YELLOW, _RED = "green", "yellow", "red"
_TAG: Final = "forebay"
_EVERYTHING: Final = ".*"
_BUILDERS: Final[Mapping[Kind, type[Any]]] = {
    Kind.LINES: timeseries.Panel,
    Kind.STACK: timeseries.Panel,
    Kind.STAT: stat.Panel,
    Kind.TABLE: table.Panel,
    Kind.TIMELINE: statetimeline.Panel,
    Kind.TEXT: text.Panel,
}

Runbooks = Mapping[str, Sequence[tuple[str, str]]]
"""`<uid>/<title>` of a panel -> name and address of the runbooks of its alerts."""


def rendered(page: Dashboard, runbooks: Runbooks) -> str:
    """Return a dashboard as JSON; equal dashboards are equal texts."""
    builder = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.about)
        .tags([_TAG])
        .timezone("browser")
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Forebay")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .keep_time(True)  # noqa: FBT003 - the library's signature
        )
    )
    for variable in _variables(page):
        builder = builder.with_variable(variable)
    for panel in _placed(page, runbooks):
        builder = builder.with_panel(panel) if not _is_row(panel) else builder.with_row(panel)
    return json.dumps(builder.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variables(page: Dashboard) -> Iterator[Any]:
    choices = [("instance", "Instance", "label_values(forebay_build_info, instance)")]
    if page.by_model:
        choices.append(("model", "Model", "label_values(llm_requests_total, model)"))
    for name, label, query in choices:
        yield (
            dashboard.QueryVariable(name)
            .label(label)
            .datasource(_SOURCE)
            .query(query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)  # noqa: FBT003 - the library's signature
            .include_all(True)  # noqa: FBT003 - the library's signature
            .all_value(_EVERYTHING)
            .current(VariableOption(text="All", value="$__all", selected=True))
        )


def _is_row(panel: object) -> bool:
    return isinstance(panel, dashboard.Row)


def _placed(page: Dashboard, runbooks: Runbooks) -> Iterator[Any]:
    """Yield rows and panels from left to right and downwards; ids count up from 1."""
    number = y = 0
    for row in page.rows:
        number += 1
        yield dashboard.Row(row.title).id(number).grid_pos(GridPos(x=0, y=y, w=_COLUMNS, h=1))
        y, x = y + 1, 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y = 0, y + _HEIGHT
            number += 1
            place = GridPos(x=x, y=y, w=panel.width, h=_HEIGHT)
            links = runbooks.get(f"{page.uid}/{panel.title}", ())
            yield _panel(panel, links).id(number).grid_pos(place)
            x += panel.width
        y += _HEIGHT


def _panel(panel: Panel, links: Sequence[tuple[str, str]]) -> Any:  # noqa: ANN401 - one of its builders
    builder = _BUILDERS[panel.kind]().title(panel.title).description(panel.about)
    if links:
        builder = builder.links([_runbook(name, url) for name, url in links])
    if panel.kind is Kind.TEXT:
        return builder.mode(TextMode.MARKDOWN).content(panel.text)
    builder = builder.datasource(_SOURCE).unit(panel.unit.value).thresholds(_thresholds(panel))
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        builder = builder.with_target(_target(query, letter, panel))
    return _styled(builder, panel)


def _styled(builder: Any, panel: Panel) -> Any:  # noqa: ANN401 - one of its builders
    match panel.kind:
        case Kind.LINES | Kind.STACK:
            lines = builder.fill_opacity(25 if panel.kind is Kind.STACK else 5)
            if panel.kind is Kind.STACK:
                lines = lines.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
            if panel.warn is None and panel.alarm is None:
                return lines
            style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
            return lines.thresholds_style(style)
        case Kind.STAT:
            latest = common.ReduceDataOptions().calcs(["lastNotNull"])
            return (
                builder.graph_mode(BigValueGraphMode.NONE)
                .color_mode(BigValueColorMode.VALUE)
                .reduce_options(latest)
            )
        case Kind.TABLE:
            hidden = {"Time": True, "__name__": True, "alertstate": True, "service": True}
            options = {"excludeByName": hidden}
            return builder.with_transformation(
                DataTransformerConfig(id_val="organize", options=options)
            )
        case _:
            return builder


def _runbook(name: str, url: str) -> Any:  # noqa: ANN401 - the library's builder
    return (
        dashboard.DashboardLink(f"Runbook: {name}")
        .type(DashboardLinkType.LINK)
        .url(url)
        .target_blank(True)  # noqa: FBT003 - the library's signature
    )


def _target(query: Query, letter: str, panel: Panel) -> Any:  # noqa: ANN401 - the library's builder
    target = prometheus.Dataquery().expr(query.expr).ref_id(letter).datasource(_SOURCE)
    if panel.kind is Kind.TABLE:
        return target.instant().format(PromQueryFormat.TABLE)
    target = target.instant() if panel.kind is Kind.STAT else target.range()
    return target.legend_format(query.legend or "__auto")


def _thresholds(panel: Panel) -> Any:  # noqa: ANN401 - the library's builder
    """Return the colours: above a bound it gets worse, or better where bounds are `below`."""
    steps = [Threshold(value=None, color=_RED if panel.below else _GREEN)]
    if panel.below:
        better = (
            (panel.alarm, _YELLOW if panel.warn is not None else _GREEN),
            (panel.warn, _GREEN),
        )
        steps += [
            Threshold(value=bound, color=color) for bound, color in better if bound is not None
        ]
        if panel.alarm is None:
            steps[0] = Threshold(value=None, color=_YELLOW)
    else:
        worse = ((panel.warn, _YELLOW), (panel.alarm, _RED))
        steps += [
            Threshold(value=bound, color=color) for bound, color in worse if bound is not None
        ]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
