"""The Grafana dashboards, as classic JSON (schema 41): what is shown, said once, and laid out by itself.

No panel repeats a number that something else decides: limits are `driftline_drift_limit`, the objective is recorded by
a rule. `tests/observability` asks a real Prometheus every query here, and each must have an answer. The file is long
because it is a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FOLDER = "deploy/grafana/dashboards"
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
Json = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """queries: legend → expression. A legend with {{label}} names every series by that label."""

    title: str
    text: str
    unit: str
    queries: Mapping[str, str]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    dashed: str = ""  # legends (a pattern) that are lines to compare with
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
    """A label's values to choose among; `many`: any of them, or all. label: its name, if it is another one."""

    name: str
    series: str
    many: bool = True
    label: str = ""


def _json(panel: Panel) -> Json:
    instant = panel.kind in {"table", "bargauge", "stat"}
    targets = []
    for ref, (legend, expr) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        form = {"table": "table", "heatmap": "heatmap"}.get(panel.kind, "time_series")
        targets.append(
            {
                "refId": ref,
                "datasource": SOURCE,
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
        "datasource": SOURCE,
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
    """Every row and panel with its number and place, left to right and downwards."""
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
            yield {"id": number, **_json(panel), "gridPos": place}
            x, deepest = x + panel.width, max(deepest, panel.height)
        y += deepest


def _variable(variable: Variable) -> Json:
    query = f"label_values({variable.series}, {variable.label or variable.name})"
    chosen = {"includeAll": True, "allValue": ".*", "multi": True, "current": {"text": "All", "value": "$__all"}}
    return {
        "name": variable.name,
        "label": variable.name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": variable.name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        **(chosen if variable.many else {"includeAll": False, "multi": False}),
    }


def _dashboard(title: str, text: str, variables: Sequence[Variable], rows: Sequence[Row], links: Sequence[Json]) -> str:
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


def _per_second(series: str, by: str = "", where: str = 'instance=~"$instance"') -> str:
    matched = series.replace("}", f", {where}}}") if "{" in series else f"{series}{{{where}}}"
    return f"sum{f' by ({by})' if by else ''} (rate({matched}[$__rate_interval]))"


def _quantile(q: float, series: str, where: str = 'instance=~"$instance"') -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({series}_bucket{{{where}}}[$__rate_interval])))"


_S = "driftline_scorer_"
_HERE = '{instance=~"$instance"}'
INSTANCE = Variable("instance", 'up{job=~"scorer|drift-worker"}')

TECHNICAL = [
    Row(
        "Stream",
        [
            Panel(
                "Events per second",
                "Input records answered, and what became of them: each is a prediction or a dead letter.",
                "cps",
                {
                    "answered": _per_second(_S + "consumed_records_total"),
                    "{{outcome}}": _per_second(_S + "records_total", "outcome"),
                },
            ),
            Panel(
                "Event age",
                "From the record's Kafka timestamp to the committed outcome, and the objective: 99 % are below it.",
                "s",
                {
                    "p50": _quantile(0.5, _S + "event_age_seconds"),
                    "p95": _quantile(0.95, _S + "event_age_seconds"),
                    "p99": _quantile(0.99, _S + "event_age_seconds"),
                    "objective": "driftline:objective:seconds",
                },
                dashed="objective",
            ),
            Panel(
                "Error budget burn",
                "How many times faster than allowed the budget of each objective is used up, over the last hour and "
                "the last three days. Above 1, the objective will be missed.",
                "short",
                {"{{slo}} over {{over}}": 'driftline:burn_rate{over=~"1h|3d"}'},
            ),
            Panel(
                "Lag",
                "Records that wait, by partition: last stable offset minus position.",
                "short",
                {"{{topic}}-{{partition}}": f"max by (topic, partition) ({_S}lag_records{_HERE})"},
            ),
            Panel(
                "Lag in time",
                "Age of the last record read, by partition; 0 at the end.",
                "s",
                {"{{topic}}-{{partition}}": f"max by (topic, partition) ({_S}lag_seconds{_HERE})"},
            ),
            Panel(
                "Partitions by state",
                "Running is good; every other state is a heading in the runbook.",
                "short",
                {"{{state}}": f"sum by (state) ({_S}partition_state{_HERE}) > 0"},
            ),
            Panel(
                "Dead letters by reason",
                "Refused records per second. The reason is the header's word.",
                "cps",
                {"{{reason}}": _per_second(_S + "dead_letters_total", "reason") + " > 0"},
            ),
            Panel(
                "Transactions by outcome",
                "Committed ones write outputs and offset together; the others wrote nothing that is seen.",
                "cps",
                {"{{outcome}}": _per_second(_S + "transactions_total", "outcome")},
            ),
            Panel(
                "Conservation",
                "Consumed records minus outcomes, by process. Anything but 0 for minutes is a defect.",
                "short",
                {
                    "{{instance}}": f"{_S}consumed_records_total{_HERE} - sum without (outcome) "
                    f"({_S}records_total{_HERE})"
                },
            ),
        ],
    ),
    Row(
        "Batches",
        [
            Panel(
                "Where the time goes",
                "Seconds that each stage takes per second.",
                "percentunit",
                {"{{stage}}": _per_second(_S + "stage_seconds_sum", "stage")},
            ),
            Panel(
                "Records per batch",
                "Batches are small when there is little to do, and grow under a backlog.",
                "short",
                {"p50": _quantile(0.5, _S + "batch_records"), "p95": _quantile(0.95, _S + "batch_records")},
            ),
            Panel(
                "Event delay",
                "From the event's own time to the committed outcome. Upstream's clock and queue are in it.",
                "s",
                {
                    "p50": _quantile(0.5, _S + "event_delay_seconds"),
                    "p99": _quantile(0.99, _S + "event_delay_seconds"),
                },
            ),
            Panel(
                "In hand",
                "Records read and not committed yet, by process.",
                "short",
                {"{{instance}}": f"{_S}in_flight_records{_HERE}"},
            ),
            Panel(
                "Rebalances and rebuilt producers",
                "Per five minutes: assignments received, and producers thrown away by cause.",
                "short",
                {
                    "assignments": f"sum (increase({_S}rebalances_total{_HERE}[5m]))",
                    "rebuilt: {{cause}}": f"sum by (cause) (increase({_S}producer_rebuilds_total{_HERE}[5m]))",
                },
            ),
            Panel(
                "Fields and headers passed over",
                "Fields the model does not know, keys that differ from the customer, headers that only we may write.",
                "cps",
                {
                    "unknown fields": _per_second(_S + "unknown_fields_total"),
                    "other keys": _per_second(_S + "key_mismatches_total"),
                    "our headers": _per_second(_S + "spoofed_headers_total"),
                },
            ),
            Panel(
                "Bundles",
                "Changed bundles that were loaded or refused, per hour.",
                "short",
                {"{{outcome}}": f"sum by (outcome) (increase({_S}model_reloads_total{_HERE}[1h]))"},
            ),
            Panel(
                "Challenger",
                "The second model, where there is one: name, version and scoring form.",
                "none",
                {"challenger": f"count by (name, version, form) ({_S}challenger_info{_HERE})"},
                kind="table",
            ),
            Panel(
                "Split",
                "Predictions of the challenger's, and those that the champion gave for want of one, by reason.",
                "cps",
                {
                    "challenger": _per_second(_S + "challenger_predictions_total"),
                    "champion instead: {{reason}}": _per_second(_S + "challenger_fallbacks_total", "reason"),
                },
            ),
            Panel(
                "Shadow predictions",
                "What the challenger has written beside the model, and the events that it did not, by reason.",
                "cps",
                {
                    "produced": _per_second(_S + "shadow_produced_total"),
                    "dropped: {{reason}}": _per_second(_S + "shadow_dropped_total", "reason"),
                },
            ),
        ],
    ),
    Row(
        "Processes",
        [
            Panel(
                "Processes that answer",
                "Scorers and drift workers that Prometheus reaches.",
                "short",
                {"{{job}}": 'sum by (job) (up{job=~"scorer|drift-worker", instance=~"$instance"})'},
            ),
            Panel(
                "CPU",
                "Cores in use, by process.",
                "short",
                {
                    "{{job}} {{instance}}": 'rate(process_cpu_seconds_total{job=~"scorer|drift-worker", '
                    'instance=~"$instance"}[$__rate_interval])'
                },
            ),
            Panel(
                "Memory",
                "Resident memory, by process.",
                "bytes",
                {
                    "{{job}} {{instance}}": 'process_resident_memory_bytes{job=~"scorer|drift-worker", '
                    'instance=~"$instance"}'
                },
            ),
            Panel(
                "Loop lag",
                "How late the event loop came round. Health answers on a thread of its own.",
                "s",
                {
                    "scorer {{instance}}": f"{_S}loop_lag_seconds{_HERE}",
                    "drift worker {{instance}}": f"driftline_drift_loop_lag_seconds{_HERE}",
                },
            ),
            Panel(
                "Since the last progress",
                "Time since an outcome, a count or a window was last committed.",
                "s",
                {
                    "scorer {{instance}}": f"time() - {_S}last_progress_timestamp_seconds{_HERE}",
                    "drift worker {{instance}}": f"time() - driftline_drift_last_progress_timestamp_seconds{_HERE}",
                },
            ),
            Panel(
                "Partitions by process",
                "A scorer without partitions stands by.",
                "short",
                {
                    "scorer {{instance}}": f"{_S}assigned_partitions{_HERE}",
                    "{{stage}} {{instance}}": f"driftline_drift_assigned_partitions{_HERE}",
                },
            ),
        ],
    ),
    Row(
        "Drift worker",
        [
            Panel(
                "Counted records",
                "Read and counted per second, by topic. The difference was refused.",
                "cps",
                {
                    "read {{topic}}": _per_second("driftline_drift_read_records_total", "topic"),
                    "counted {{topic}}": _per_second("driftline_drift_counted_events_total", "topic"),
                },
            ),
            Panel(
                "Lag of the drift worker",
                "Records that wait to be counted, or to be evaluated.",
                "short",
                {
                    "{{topic}}-{{partition}}": "max by (topic, partition) "
                    '(driftline_drift_lag_records{instance=~"$instance"})'
                },
            ),
            Panel(
                "Partitions of the drift worker by state",
                "Of both stages. Every state but running is a heading in the runbook.",
                "short",
                {"{{state}}": 'sum by (state) (driftline_drift_partition_state{instance=~"$instance"}) > 0'},
            ),
            Panel(
                "Transactions of the drift worker",
                "Per second, by stage and outcome.",
                "cps",
                {
                    "{{stage}} {{outcome}}": _per_second("driftline_drift_transactions_total", "stage, outcome"),
                },
            ),
            Panel(
                "Rebalances of the drift worker",
                "Per five minutes: assignments received, and producers thrown away by cause.",
                "short",
                {
                    "assignments: {{stage}}": "sum by (stage) (increase(driftline_drift_rebalances_total"
                    '{instance=~"$instance"}[5m]))',
                    "rebuilt: {{cause}}": "sum by (cause) (increase(driftline_drift_producer_rebuilds_total"
                    '{instance=~"$instance"}[5m]))',
                },
            ),
            Panel(
                "Damaged records",
                "Records of our own that could not be read, per second, by topic.",
                "cps",
                {"{{topic}}": _per_second("driftline_drift_unreadable_records_total", "topic")},
            ),
        ],
    ),
]

_WHERE = 'model=~"$model", feature=~"$feature", window="$window"'
_D = "driftline_drift_"
STATES: list[Json] = [
    {
        "type": "value",
        "options": {
            "-1": {"text": "not enough data", "color": "text", "index": 0},
            "0": {"text": "quiet", "color": "green", "index": 1},
            "1": {"text": "pending", "color": "blue", "index": 2},
            "2": {"text": "warning", "color": "orange", "index": 3},
            "3": {"text": "critical", "color": "red", "index": 4},
        },
    }
]


def _by_feature(statistic: str) -> str:
    return f"max by (feature) ({_D}{statistic}{{{_WHERE}}})"


_LIMITS = {"limit: {{severity}}": f"max by (severity) ({_D}limit{{{_WHERE}}})"}

DATA = [
    Row(
        "Now",
        [
            Panel(
                "State of every feature",
                "What the drift worker says of each feature and of the score (the rows without a feature), confirmed "
                "over windows.",
                "none",
                {
                    "{{feature}} {{alertname}}": f"max by (feature, alertname) "
                    f'({_D}state{{model=~"$model", feature=~"$feature"}})'
                },
                kind="state-timeline",
                width=16,
                height=14,
                mappings=STATES,
            ),
            Panel(
                "Alerts",
                "Everything that fires now. docs/runbook.md has a section for each.",
                "none",
                {"alerts": 'ALERTS{alertstate="firing", alertname!="Watchdog"}'},
                kind="table",
                height=14,
                transformations=[
                    {
                        "id": "organize",
                        "options": {
                            "excludeByName": dict.fromkeys(("Time", "Value", "__name__", "alertstate", "job"), True),
                            "indexByName": {"severity": 0, "alertname": 1, "feature": 2, "model": 3},
                        },
                    }
                ],
            ),
        ],
    ),
    Row(
        "Distance from the reference",
        [
            Panel(
                "Effect and its limits",
                "The number that is compared: the larger of PSI* and KS's D, or of PSI* and the largest moved share.",
                "short",
                {"{{feature}}": _by_feature("effect"), **_LIMITS},
                dashed="limit.*",
                width=12,
            ),
            Panel(
                "Nearest to its limit",
                "The effect as a share of the feature's own warning limit: above 100 % it exceeds.",
                "percentunit",
                {
                    "{{feature}}": f"topk(12, max by (feature) ({_D}effect{{{_WHERE}}} / ignoring (severity) "
                    f'{_D}limit{{severity="warning", {_WHERE}}}))'
                },
                kind="bargauge",
                width=12,
            ),
            Panel(
                "PSI and what chance alone gives",
                "The dashed line is the PSI that one window in a thousand exceeds without drift, of the feature where "
                "it is highest.",
                "short",
                {"{{feature}}": _by_feature("psi"), "null 99.9 %": f"max ({_D}null_999{{{_WHERE}}})"},
                dashed="null.*",
            ),
            Panel(
                "PSI* and its limits",
                "PSI less its expectation without drift.",
                "short",
                {"{{feature}}": _by_feature("psi_corrected"), **_LIMITS},
                dashed="limit.*",
            ),
            Panel(
                "KS distance and its limits",
                "Largest distance between the cumulative distributions; numeric features and the score.",
                "short",
                {"{{feature}}": _by_feature("ks"), **_LIMITS},
                dashed="limit.*",
            ),
            Panel(
                "Evidence",
                "log10 of the p-value of the strongest test: the lower, the surer. Without effect it is no alert.",
                "short",
                {"{{feature}}": _by_feature("log10_p")},
            ),
            Panel(
                "The textbook's PSI",
                "With ten quantile bins and no correction, for comparison with other tools.",
                "short",
                {"{{feature}}": _by_feature("psi_textbook")},
            ),
            Panel(
                "Score distribution",
                "How many predictions fall between two probabilities, of all scorers.",
                "short",
                {"{{le}}": f"sum by (le) (increase({_S}probability_bucket[$__rate_interval]))"},
                kind="heatmap",
            ),
        ],
    ),
    Row(
        "Quality of the data",
        [
            Panel(
                "Missing values",
                "Share of events without a value, by feature.",
                "percentunit",
                {"{{feature}}": _by_feature("missing_ratio")},
            ),
            Panel(
                "Unseen categories",
                "Share of values in categories that the reference does not have. GET /drift has their names.",
                "percentunit",
                {"{{feature}}": _by_feature("unseen_ratio")},
            ),
            Panel(
                "Unseen categories at the scorer",
                "Values per second that the model encodes as unknown.",
                "cps",
                {"{{feature}}": f'sum by (feature) (rate({_S}unseen_categories_total{{feature=~"$feature"}}[5m]))'},
            ),
            Panel(
                "Window size",
                "Events in the last window, and as how many independent ones they count at least: customers repeat.",
                "short",
                {
                    "events": f'max ({_D}window_events{{model=~"$model", window="$window"}})',
                    "effective": f'max ({_D}window_effective_events{{model=~"$model", window="$window"}})',
                },
            ),
            Panel(
                "Complete windows",
                "1 if no partition was missing when the last window of a length was closed.",
                "none",
                {"{{window}}": f'min by (window) ({_D}window_complete{{model=~"$model"}})'},
            ),
            Panel(
                "Event time",
                "How far the watermark of each partition is behind the clock.",
                "s",
                {"{{topic}}-{{partition}}": f"max by (topic, partition) ({_D}watermark_lag_seconds)"},
            ),
            Panel(
                "Refused and late",
                "Records that are counted nowhere, per second.",
                "cps",
                {
                    "late": f"sum (rate({_D}late_events_total[5m]))",
                    "future {{topic}}": f"sum by (topic) (rate({_D}future_events_total[5m]))",
                    "{{reason}}": f"sum by (reason) (rate({_D}refused_events_total[5m])) > 0",
                },
            ),
            Panel(
                "Windows and alerts per hour",
                "Windows measured, and messages written to drift-alerts.",
                "short",
                {
                    "windows of {{window}}": f"sum by (window) (increase({_D}windows_total[1h]))",
                    "{{status}}": f"sum by (status) (increase({_D}alerts_total[1h]))",
                },
            ),
            Panel(
                "Reference",
                "What windows are compared with: model, version and rows.",
                "none",
                {"reference": f'max by (model, version, rows) ({_D}reference_info{{model=~"$model"}})'},
                kind="table",
            ),
        ],
    ),
]


def _cohort(name: str, by: str, where: str = "") -> str:
    """A series of the newest final cohort, by version and `by`."""
    return f'max by ({by}) (driftline_model_{name}{{model=~"$model", status="final"{where}}})'


_SERVED = '* on (job, instance) group_left (name) driftline_model_info{name=~"$model"}'


def _predicted(where: str, span: str) -> str:
    return f"sum by (name) (rate({_S}predictions_total{where}[{span}]) {_SERVED})"


def _observed(part: str, span: str) -> str:
    return f"sum by (name) (rate({_S}probability_{part}[{span}]) {_SERVED})"


BUSINESS = [
    Row(
        "Predictions",
        [
            Panel(
                "Predicted churn rate",
                "Share of the customers with label true: probability at or above the model's threshold.",
                "percentunit",
                {
                    "{{name}}, now": _predicted('{predicted="true"}', "$__rate_interval")
                    + " / "
                    + _predicted("", "$__rate_interval"),
                    "{{name}}, last hour": _predicted('{predicted="true"}', "1h") + " / " + _predicted("", "1h"),
                },
                width=12,
            ),
            Panel(
                "Customers predicted to churn",
                "Predictions with label true in the last hour, and in the last day.",
                "short",
                {
                    "{{name}}, last hour": _predicted('{predicted="true"}', "1h") + " * 3600",
                    "{{name}}, last day": _predicted('{predicted="true"}', "1d") + " * 86400",
                },
                kind="stat",
                width=6,
            ),
            Panel(
                "Events answered",
                "Share of the valid events that got a prediction, in the last hour.",
                "percentunit",
                {
                    "last hour": f'sum (increase({_S}records_total{{outcome="predicted"}}[1h])) / '
                    f'(sum (increase({_S}records_total{{outcome="predicted"}}[1h])) + '
                    f'sum (increase({_S}dead_letters_total{{reason="model_error"}}[1h])))'
                },
                kind="stat",
                width=6,
            ),
            Panel(
                "Mean probability",
                "Of all predictions. It moves before the rate does, where many customers are near the threshold.",
                "percentunit",
                {"{{name}}": _observed("sum", "$__rate_interval") + " / " + _observed("count", "$__rate_interval")},
            ),
            Panel(
                "Score distribution",
                "How many predictions fall between two probabilities.",
                "short",
                {"{{le}}": f"sum by (le) (increase({_S}probability_bucket[$__rate_interval]) {_SERVED})"},
                kind="heatmap",
            ),
            Panel(
                "Predictions per second",
                "By label.",
                "cps",
                {"{{predicted}}": f"sum by (predicted) (rate({_S}predictions_total[$__rate_interval]) {_SERVED})"},
            ),
        ],
    ),
    Row(
        "How good it was, by labels",
        [
            Panel(
                "Realised and estimated accuracy",
                "Realised: of the newest day whose predictions are all older than the label horizon. Estimated: from "
                "the scores alone, of the same day and of the newest one, whose labels are still to come.",
                "percentunit",
                {
                    "{{version}}, realised": _cohort("accuracy", "version"),
                    "{{version}}, estimated, {{status}}": "max by (version, status) "
                    '(driftline_model_estimated_accuracy{model=~"$model"})',
                },
                width=12,
            ),
            Panel(
                "F1 and ROC AUC",
                "Of the newest final cohort, by labels.",
                "percentunit",
                {"{{version}}, F1": _cohort("f1", "version"), "{{version}}, ROC AUC": _cohort("auc", "version")},
                width=12,
            ),
            Panel(
                "Brier score",
                "Of the newest final cohort; lower is better. Who only knows the rate of churn has rate × (1 - rate).",
                "short",
                {"{{version}}": _cohort("brier", "version")},
            ),
            Panel(
                "Label coverage",
                "Known outcomes over predictions, and of each outcome over as many as the scores promise. While a "
                "cohort is provisional the two differ: those who leave are labelled first. Nothing follows from it.",
                "percentunit",
                {
                    "{{version}}, {{status}}, {{outcome}}": "max by (version, status, outcome) "
                    '(driftline_model_label_coverage_ratio{model=~"$model"})'
                },
            ),
            Panel(
                "Money",
                "What the outcomes of the newest final cohort are worth, by the spec's money per outcome.",
                "short",
                {"{{version}}, {{currency}}": _cohort("business_value", "version, currency")},
            ),
            Panel(
                "Age of the cohort",
                "Since the end of the day that these numbers are of: at least the label horizon where it is final.",
                "s",
                {
                    "{{version}}, {{status}}": "time() - max by (version, status) "
                    '(driftline_model_cohort_end_timestamp_seconds{model=~"$model"})'
                },
                kind="stat",
                width=6,
            ),
            Panel(
                "Labels per hour",
                "Labels that were read, records that are none by reason, and cohorts that became final.",
                "short",
                {
                    "labels": "sum (increase(driftline_model_labels_total[1h]))",
                    "refused: {{reason}}": "sum by (reason) (increase(driftline_model_refused_labels_total[1h]))",
                    "final cohorts": "sum (increase(driftline_model_cohorts_total[1h]))",
                },
                width=18,
            ),
        ],
    ),
    Row(
        "Can it be trusted",
        [
            Panel(
                "Model in use",
                "Name, version and scoring form; two versions for a moment while a new bundle is taken up.",
                "none",
                {
                    "model": 'count by (name, version, form) (driftline_model_info{job="scorer", name=~"$model"})',
                },
                kind="table",
            ),
            Panel(
                "Age of the model",
                "Since its bundle was made.",
                "s",
                {"{{name}}": f'max by (name) (driftline_model_age_seconds{{job="scorer"}} {_SERVED})'},
                kind="stat",
                width=4,
            ),
            Panel(
                "Features that drift",
                "How many features, or the score, or the performance, are at warning or critical, by alert.",
                "short",
                {"{{alertname}}": f'count by (alertname) ({_D}state{{model=~"$model"}} >= 2) or vector(0)'},
                width=12,
            ),
            Panel(
                "How far the score moved",
                "The score's effect against the reference, by window length, and its limits.",
                "short",
                {
                    "{{window}}": f'max by (window) ({_D}effect{{model=~"$model", feature="score"}})',
                    "limit: {{severity}}": f'max by (severity) ({_D}limit{{model=~"$model", feature="score"}})',
                },
                dashed="limit.*",
                width=12,
            ),
            Panel(
                "Refused events",
                "Share of all events that got no prediction because they were not valid, in the last hour.",
                "percentunit",
                {
                    "refused": f'sum (increase({_S}records_total{{outcome="dead_lettered"}}[1h])) / '
                    f"sum (increase({_S}records_total[1h]))"
                },
                width=12,
            ),
        ],
    ),
]


def files() -> dict[str, str]:
    """Every dashboard: path from the repository's root → JSON."""
    report = {
        "type": "link",
        "title": "Drift report",
        "icon": "doc",
        "url": "http://localhost:8010/drift.html",
        "tooltip": "The drift worker's page: every feature beside its reference",
        "targetBlank": True,
    }
    drift = [
        Variable("model", "driftline_drift_state", many=False),
        Variable("feature", 'driftline_drift_state{model=~"$model"}'),
        Variable("window", 'driftline_drift_window_events{model=~"$model"}', many=False),
    ]
    return {
        f"{FOLDER}/technical.json": _dashboard(
            "Technical", "Are events answered, in time, each once?", [INSTANCE], TECHNICAL, []
        ),
        f"{FOLDER}/data.json": _dashboard(
            "Data", "Are these the customers the model was trained on?", drift, DATA, [report]
        ),
        f"{FOLDER}/business.json": _dashboard(
            "Business",
            "What the model says of the customers, and how often it was right once the labels had come.",
            [Variable("model", "driftline_model_info", label="name")],
            BUSINESS,
            [report],
        ),
    }
