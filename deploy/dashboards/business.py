"""Business: what does the model predict, and how often is it right?"""

from __future__ import annotations

from deploy.dashboards.layout import DRIFT, REPORT_LINK, SCORER, Panel, Row, Variable, dashboard


def _cohort(name: str, by: str, where: str = "") -> str:
    """Return a series of the newest final cohort, by version and `by`."""
    return f'max by ({by}) (driftline_model_{name}{{model=~"$model", status="final"{where}}})'


def _estimated(name: str) -> str:
    """Return a series that is estimated without labels, by version and status of the cohort."""
    return f'max by (version, status) (driftline_model_estimated_{name}{{model=~"$model"}})'


_SERVED = '* on (job, instance) group_left (name) driftline_model_info{name=~"$model"}'


def _predicted(where: str, span: str) -> str:
    return f"sum by (name) (rate({SCORER}predictions_total{where}[{span}]) {_SERVED})"


def _observed(part: str, span: str) -> str:
    return f"sum by (name) (rate({SCORER}probability_{part}[{span}]) {_SERVED})"


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
                    "last hour": f'sum (increase({SCORER}records_total{{outcome="predicted"}}[1h])) / '
                    f'(sum (increase({SCORER}records_total{{outcome="predicted"}}[1h])) + '
                    f'sum (increase({SCORER}dead_letters_total{{reason="model_error"}}[1h])))'
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
                {"{{le}}": f"sum by (le) (increase({SCORER}probability_bucket[$__rate_interval]) {_SERVED})"},
                kind="heatmap",
            ),
            Panel(
                "Predictions per second",
                "By label.",
                "cps",
                {"{{predicted}}": f"sum by (predicted) (rate({SCORER}predictions_total[$__rate_interval]) {_SERVED})"},
            ),
        ],
    ),
    Row(
        "Quality by labels",
        [
            Panel(
                "Realised and estimated accuracy",
                "Realised: of the newest day whose predictions are all older than the label horizon. Estimated: from "
                "the scores alone, of the same day and of the newest one, whose labels are still to come.",
                "percentunit",
                {
                    "{{version}}, realised": _cohort("accuracy", "version"),
                    "{{version}}, estimated, {{status}}": _estimated("accuracy"),
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
                "Of the newest final cohort; lower is better. A constant churn rate gives rate × (1 - rate).",
                "short",
                {"{{version}}": _cohort("brier", "version")},
            ),
            Panel(
                "Macro F1 and ROC AUC of several classes",
                "Of the newest final cohort, by labels: means over the classes. Estimated: from the probabilities "
                "alone, also of the newest day, whose labels are still to come.",
                "percentunit",
                {
                    "{{version}}, macro F1": _cohort("f1_macro", "version"),
                    "{{version}}, macro F1, estimated, {{status}}": _estimated("f1_macro"),
                    "{{version}}, ROC AUC": _cohort("auc_ovr", "version"),
                },
                width=12,
            ),
            Panel(
                "Errors of a regression",
                "Of the newest final cohort, by labels, in the value's unit: mean absolute error, root mean square "
                "error, and the mean of value minus outcome. Estimated: from the values alone, also of the newest day.",
                "short",
                {
                    "{{version}}, MAE": _cohort("mae", "version"),
                    "{{version}}, MAE, estimated, {{status}}": _estimated("mae"),
                    "{{version}}, RMSE": _cohort("rmse", "version"),
                    "{{version}}, bias": _cohort("bias", "version"),
                },
                width=12,
            ),
            Panel(
                "R squared and interval coverage",
                "Of a regression's newest final cohort: the share of the outcomes' variance that the values explain, "
                "and the share of outcomes within their intervals.",
                "percentunit",
                {
                    "{{version}}, R squared": _cohort("r2", "version"),
                    "{{version}}, within the interval": _cohort("interval_coverage_ratio", "version"),
                },
                width=12,
            ),
            Panel(
                "Label coverage",
                "Known outcomes over predictions, and of each outcome over the number estimated from the scores. They "
                "differ while a cohort is provisional: labels of customers who leave arrive first. Not an alert.",
                "percentunit",
                {
                    "{{version}}, {{status}}, {{outcome}}": "max by (version, status, outcome) "
                    '(driftline_model_label_coverage_ratio{model=~"$model"})'
                },
            ),
            Panel(
                "Money",
                "What the outcomes of the newest final cohort are worth, by the money in the spec.",
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
                {"{{alertname}}": f'count by (alertname) ({DRIFT}state{{model=~"$model"}} >= 2) or vector(0)'},
                width=12,
            ),
            Panel(
                "How far the score moved",
                "The score's effect against the reference, by window length, and its limits.",
                "short",
                {
                    "{{window}}": f'max by (window) ({DRIFT}effect{{model=~"$model", feature="score"}})',
                    "limit: {{severity}}": f'max by (severity) ({DRIFT}limit{{model=~"$model", feature="score"}})',
                },
                dashed="limit.*",
                width=12,
            ),
            Panel(
                "Refused events",
                "Share of all events that got no prediction because they were not valid, in the last hour.",
                "percentunit",
                {
                    "refused": f'sum (increase({SCORER}records_total{{outcome="dead_lettered"}}[1h])) / '
                    f"sum (increase({SCORER}records_total[1h]))"
                },
                width=12,
            ),
        ],
    ),
]

DASHBOARD = dashboard(
    "Business",
    "What does the model predict, and how often is it right, by labels?",
    [Variable("model", "driftline_model_info", label="name")],
    BUSINESS,
    [REPORT_LINK],
)
