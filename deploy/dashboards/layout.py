"""The layout of a dashboard: panels, rows and variables as data; their numbers and places are computed here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

#: Columns of Grafana's grid.
WIDTH = 24
DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: Prefixes of the series of the scorer and of the drift worker.
SCORER = "driftline_scorer_"
DRIFT = "driftline_drift_"
Json = dict[str, Any]
#: For the dashboards with a link to the distributions.
REPORT_LINK: Json = {
    "type": "link",
    "title": "Drift report",
    "icon": "doc",
    "url": "http://localhost:8010/drift.html",
    "tooltip": "The drift worker's page: every feature beside its reference",
    "targetBlank": True,
}


@dataclass(frozen=True)
class Panel:
    """One panel: what it shows, and how wide it is. Its place follows from the panels before it."""

    title: str
    text: str
    unit: str
    #: Legend → expression. A legend with {{label}} names every series by that label.
    queries: Mapping[str, str]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    #: A pattern of the legends that are lines to compare with.
    dashed: str = ""
    options: Json = field(default_factory=dict)
    mappings: Sequence[Json] = ()
    transformations: Sequence[Json] = ()


@dataclass(frozen=True)
class Row:
    """A heading, and the panels below it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Variable:
    """A label's values to choose among."""

    name: str
    series: str
    #: Any of the values, or all; otherwise one.
    many: bool = True
    #: The label's name, if it differs from the variable's.
    label: str = ""


def _panel(panel: Panel) -> Json:
    instant = panel.kind in {"table", "bargauge", "stat"}
    targets = []
    for ref, (legend, expr) in zip(ascii_uppercase, panel.queries.items(), strict=False):
        form = {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series")
        targets.append(
            {
                "refId": ref,
                "datasource": DATA_SOURCE,
                "expr": expr,
                "legendFormat": legend,
                "format": form,
                "instant": instant,
                "range": not instant,
            }
        )
    custom = {"fillOpacity": 8, "lineWidth": 2, "showPoints": "never"} if panel.kind == "timeseries" else {}
    overrides = []
    if panel.dashed:
        style = [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
            {"id": "custom.fillOpacity", "value": 0},
        ]
        overrides.append({"matcher": {"id": "byRegexp", "options": panel.dashed}, "properties": style})
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATA_SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": custom, "mappings": list(panel.mappings)},
            "overrides": overrides,
        },
        "options": panel.options or _OPTIONS.get(panel.kind, {}),
        "targets": targets,
        "transformations": list(panel.transformations),
    }


_OPTIONS: Mapping[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5},
        "yAxis": {"unit": "short"},
        "tooltip": {"mode": "single", "yHistogram": False},
        "legend": {"show": True},
    },
    "bargauge": {
        "orientation": "horizontal",
        "displayMode": "basic",
        "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
    },
    "stat": {"colorMode": "none", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"], "values": False}},
    "state-timeline": {"mergeValues": True, "showValue": "never", "rowHeight": 0.9, "legend": {"showLegend": True}},
}


def _panels(rows: Sequence[Row]) -> Iterator[Json]:
    """Yield every row and panel with its number and place, left to right and downwards."""
    number = y = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
            "panels": [],
        }
        y, x, deepest = y + 1, 0, 0
        for panel in row.panels:
            number += 1
            if x + panel.width > WIDTH:
                y, x, deepest = y + deepest, 0, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, **_panel(panel), "gridPos": place}
            x, deepest = x + panel.width, max(deepest, panel.height)
        y += deepest


def _variable(variable: Variable) -> Json:
    query = f"label_values({variable.series}, {variable.label or variable.name})"
    chosen = {"includeAll": True, "allValue": ".*", "multi": True, "current": {"text": "All", "value": "$__all"}}
    return {
        "name": variable.name,
        "label": variable.name.capitalize(),
        "type": "query",
        "datasource": DATA_SOURCE,
        "query": {"query": query, "refId": variable.name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        **(chosen if variable.many else {"includeAll": False, "multi": False}),
    }


def dashboard(title: str, text: str, variables: Sequence[Variable], rows: Sequence[Row], links: Sequence[Json]) -> str:
    """Return the JSON file of a dashboard."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}
    others = {"type": "dashboards", "title": "Driftline", "tags": ["driftline"], "asDropdown": False, "keepTime": True}
    document = {
        "uid": f"driftline-{title.lower()}",
        "title": title,
        "description": text,
        "tags": ["driftline"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 1,
        "links": [others, *links],
        "annotations": {"list": []},
        "templating": {"list": [source, *map(_variable, variables)]},
        "panels": list(_panels(rows)),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def per_second(series: str, by: str = "", where: str = 'instance=~"$instance"') -> str:
    """Return the rate of a counter, summed over all labels except `by`; `series` may contain a selector."""
    matched = series.replace("}", f", {where}}}") if "{" in series else f"{series}{{{where}}}"
    return f"sum{f' by ({by})' if by else ''} (rate({matched}[$__rate_interval]))"


def quantile(q: float, series: str, where: str = 'instance=~"$instance"') -> str:
    """Return the quantile `q` (0 to 1) of a histogram over the processes chosen."""
    return f"histogram_quantile({q}, sum by (le) (rate({series}_bucket{{{where}}}[$__rate_interval])))"
