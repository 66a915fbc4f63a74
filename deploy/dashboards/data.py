"""Data: are these the customers that the model was trained on?"""

from __future__ import annotations

from deploy.dashboards.layout import DRIFT, REPORT_LINK, SCORER, Json, Panel, Row, Variable, dashboard
from drift_worker.statistics.catalogue import CATALOGUE

_WHERE = 'model=~"$model", feature=~"$feature", window="$window"'
_OF_MODEL = 'model=~"$model", window="$window"'
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
    return f"max by (feature) ({DRIFT}{statistic}{{{_WHERE}}})"


_LIMITS = {"limit: {{severity}}": f"max by (severity) ({DRIFT}limit{{{_WHERE}}})"}


def _statistics(*, compared: bool) -> list[Panel]:
    """Return a panel for each statistic that has one; `compared`: those with values to compare with."""
    panels = []
    for known in CATALOGUE:
        if known.panel is None or bool(known.evidence or known.null) is not compared:
            continue
        series = {"{{feature}}": _by_feature(known.name)}
        if known.null is not None:
            series["null 99.9 %"] = f"max ({DRIFT}{known.null}{{{_WHERE}}})"
        if known.evidence and not known.own_limits:
            series |= _LIMITS
        title, text = known.panel
        dashed = "null.*" if known.null is not None else "limit.*" if known.evidence else ""
        panels.append(Panel(title, text, "short", series, dashed=dashed))
    return panels


DATA = [
    Row(
        "Now",
        [
            Panel(
                "State of every feature",
                "The drift worker's state of each feature and of the score (the rows without a feature), confirmed "
                "over windows.",
                "none",
                {
                    "{{feature}} {{alertname}}": f"max by (feature, alertname) "
                    f'({DRIFT}state{{model=~"$model", feature=~"$feature"}})'
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
                    "{{feature}}": f"topk(12, max by (feature) ({DRIFT}effect{{{_WHERE}}} / ignoring (severity) "
                    f'{DRIFT}limit{{severity="warning", {_WHERE}}}))'
                },
                kind="bargauge",
                width=12,
            ),
            *_statistics(compared=True),
            Panel(
                "Natural variation",
                "How many times more a feature varies from window to window than its customers explain. 1: not more.",
                "short",
                {"{{feature}}": _by_feature("natural_variation")},
            ),
            Panel(
                "Features together",
                "The largest change of a correlation, an association, or of how the score follows the features; of a "
                "segment in standard deviations. Each feature alone may look as before.",
                "short",
                {
                    "{{kind}}": f"max by (kind) ({DRIFT}relation_change{{{_OF_MODEL}}})",
                    "limit: {{kind}}, {{severity}}": f"max by (kind, severity) ({DRIFT}relation_limit{{{_OF_MODEL}}})",
                },
                dashed="limit.*",
            ),
            Panel(
                "Evidence",
                "log10 of the p-value of the strongest test: the lower, the surer. Without effect it is no alert.",
                "short",
                {"{{feature}}": _by_feature("log10_p")},
            ),
            *_statistics(compared=False),
            Panel(
                "Score distribution",
                "How many predictions fall between two probabilities, of all scorers.",
                "short",
                {"{{le}}": f"sum by (le) (increase({SCORER}probability_bucket[$__rate_interval]))"},
                kind="heatmap",
            ),
            Panel(
                "Value distribution",
                "How many predicted values of a regression fall between two bounds, of all scorers.",
                "short",
                {"{{le}}": f"sum by (le) (increase({SCORER}value_bucket[$__rate_interval]))"},
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
                {"{{feature}}": f'sum by (feature) (rate({SCORER}unseen_categories_total{{feature=~"$feature"}}[5m]))'},
            ),
            Panel(
                "Window size",
                "Events in the last window, and as how many independent ones they count at least: customers repeat.",
                "short",
                {
                    "events": f'max ({DRIFT}window_events{{model=~"$model", window="$window"}})',
                    "effective": f'max ({DRIFT}window_effective_events{{model=~"$model", window="$window"}})',
                },
            ),
            Panel(
                "Judged over",
                "How much event time the last window was judged over. It is more than the window's length where it has "
                "too few events: it is then judged together with those before it.",
                "s",
                {"{{window}}": f'max by (window) ({DRIFT}window_judged_seconds{{model=~"$model"}})'},
            ),
            Panel(
                "Complete windows",
                "1 if no partition was missing when the last window of a length was closed.",
                "none",
                {"{{window}}": f'min by (window) ({DRIFT}window_complete{{model=~"$model"}})'},
            ),
            Panel(
                "Event time",
                "How far the watermark of each partition is behind the clock.",
                "s",
                {"{{topic}}-{{partition}}": f"max by (topic, partition) ({DRIFT}watermark_lag_seconds)"},
            ),
            Panel(
                "Refused and late",
                "Records that are counted nowhere, per second.",
                "cps",
                {
                    "late": f"sum (rate({DRIFT}late_events_total[5m]))",
                    "future {{topic}}": f"sum by (topic) (rate({DRIFT}future_events_total[5m]))",
                    "{{reason}}": f"sum by (reason) (rate({DRIFT}refused_events_total[5m])) > 0",
                },
            ),
            Panel(
                "Episodes found late",
                "Episodes in windows that ended more than a day before they were evaluated, in an hour. They are not "
                "announced; driftline backtest --backlog lists them.",
                "short",
                {"{{alertname}}": f"sum by (alertname) (increase({DRIFT}found_late_episodes_total[1h])) > 0"},
            ),
            Panel(
                "Windows and alerts per hour",
                "Windows measured, and messages written to drift-alerts.",
                "short",
                {
                    "windows of {{window}}": f"sum by (window) (increase({DRIFT}windows_total[1h]))",
                    "{{status}}": f"sum by (status) (increase({DRIFT}alerts_total[1h]))",
                },
            ),
            Panel(
                "Reference",
                "What windows are compared with: model, version and rows.",
                "none",
                {"reference": f'max by (model, version, rows) ({DRIFT}reference_info{{model=~"$model"}})'},
                kind="table",
            ),
        ],
    ),
]

DASHBOARD = dashboard(
    "Data",
    "Are these the customers the model was trained on?",
    [
        Variable("model", "driftline_drift_state", many=False),
        Variable("feature", 'driftline_drift_state{model=~"$model"}'),
        Variable("window", 'driftline_drift_window_events{model=~"$model"}', many=False),
    ],
    DATA,
    [REPORT_LINK],
)
