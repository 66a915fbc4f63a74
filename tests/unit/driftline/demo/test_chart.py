"""The parts of `driftline demo-life` that need no Kafka: the picture, and the proof out of the prediction log."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from driftline.demo import model_life
from driftline.demo.chart import Day, Moment, Range, as_svg
from driftline.demo.recompute import recomputed
from driftline.demo.upstream import Upstream
from schemas.performance import Band, Cohort, Coverage, LabelCount, Metric, Performance, Value

DAYS = [
    Day(0, "1.0.0", Range(0.80, 0.78, 0.82), Range(0.79, 0.76, 0.82)),
    Day(1, "1.0.0", Range(0.61, 0.58, 0.64), Range(0.77, 0.74, 0.80)),
    Day(2, "1.1.0", Range(0.81, 0.79, 0.83), None),
]
# (outcome, probability, label): accuracy 3/4, F1 2·1/(2·1 + 1), every pair in order, Brier (.01 + .16 + .04 + .09)/4
ROWS = [(True, 0.9, True), (True, 0.6, False), (False, 0.2, False), (False, 0.3, False)]
METRICS = {
    "accuracy": 0.75,
    "f1": 2 / 3,
    "roc_auc": 1.0,
    "brier": 0.075,
    "log_loss": 0.2990011586691898,
}


def test_the_picture_has_every_day_and_moment_inside_its_frame() -> None:
    """Measured and promised are dots with their value; what happened is a line with its words; names are escaped."""
    moments = [Moment(1.0, "a <b> & c"), Moment(2.7, "promoted")]
    svg = ET.fromstring(as_svg("A model's life", DAYS, moments))  # noqa: S314 - made here
    dots = [e for e in svg.iter() if e.tag.endswith("circle")]
    assert [dot[0].text for dot in dots] == [
        "from the scores of 1.0.0: 0.790", "1.0.0: measured 0.800", "from the scores of 1.0.0: 0.770",
        "1.0.0: measured 0.610", "1.1.0: measured 0.810",
    ]  # fmt: skip
    width, height = float(svg.get("width", "0")), float(svg.get("height", "0"))
    assert all(0 < float(d.get("cx", "0")) < width and 0 < float(d.get("cy", "0")) < height for d in dots)
    lower = {dot[0].text: float(dot.get("cy", "0")) for dot in dots}
    assert lower["1.0.0: measured 0.610"] > lower["1.0.0: measured 0.800"]
    words = [e.text for e in svg.iter() if e.tag.endswith("text")]
    assert {"a <b> & c", "promoted", "1", "2", "3"} <= set(words)


@pytest.mark.parametrize(("told", "worst"), [({}, 0.0), ({"f1": 0.7}, 0.7 - 2 / 3)])
def test_every_metric_is_computed_again_from_the_rows_of_its_day_and_model(tmp_path, told, worst) -> None:
    """Rows of another day or version, or without an outcome, are not in it; a wrong number is found."""
    log = tmp_path / "log.jsonl"
    day, mine = "2026-11-22", "1.0.0"
    rows = [(day, mine, *row) for row in ROWS]
    rows += [(day, "1.1.0", True, 0.1, False), ("2026-11-23", mine, True, 0.1, False), (day, mine, None, 0.1, False)]
    log.write_text(
        "".join(
            json.dumps({"event_time": f"{d}T06:00:00Z", "model_version": v, "outcome": o, "probability": p, "label": x})
            + "\n"
            for d, v, o, p, x in rows
        )
    )
    metrics = {name: Metric(value) for name, value in {**METRICS, **told}.items()}
    assert recomputed(log, [cohort(day, mine, metrics)]) == pytest.approx(worst, abs=1e-12)


def test_what_a_cohort_does_not_know_is_not_compared(tmp_path) -> None:
    """A cohort of one outcome alone has no ROC AUC; one without any row claims nothing, and one that does is wrong."""
    log = tmp_path / "log.jsonl"
    row = {"event_time": "2026-11-22T06:00:00Z", "model_version": "1.0.0", "outcome": False}
    log.write_text(json.dumps({**row, "probability": 0.25, "label": False}) + "\n")
    unknown = Metric(None, reason="one_class")
    mine = cohort("2026-11-22", "1.0.0", {"accuracy": Metric(1.0), "brier": Metric(0.0625), "roc_auc": unknown})
    assert recomputed(log, [mine]) == pytest.approx(0.0, abs=1e-12)
    assert recomputed(log, [cohort("2026-11-23", "1.0.0", {"accuracy": Metric(None)})]) == 0.0
    assert recomputed(log, [cohort("2026-11-23", "1.0.0", {"accuracy": Metric(0.5)})]) == float("inf")


@pytest.mark.parametrize(
    ("accuracy", "band", "money", "line"),
    [
        (Metric(0.8, 0.01, 0.78, 0.82), Band(0.79, 0.76, 0.82, 0.0, 0.0), 1234.5,
         "accuracy 0.800 (0.780 to 0.820), from the scores 0.790 (0.760 to 0.820), worth 1,234 EUR"),
        (Metric(1.0, reason="one_customer"), None, 0.0, "accuracy 1.000, worth 0 EUR"),
        (Metric(None, reason="no_rows"), None, None, "accuracy – (no rows), worth – EUR"),
        (None, None, None, "accuracy –, worth – EUR"),
    ],
)  # fmt: skip
def test_a_cohort_whose_numbers_are_not_known_is_a_line_and_a_day(accuracy, band, money, line) -> None:
    """A day that a busy machine cut short has no accuracy: a dash and why, no dot in the picture, and no error."""
    found = cohort("2026-11-22", "1.1.0", {} if accuracy is None else {"accuracy": accuracy}, band, money)
    assert model_life._line(4, found) == f"day  5, 1.1.0: {line}"
    day = model_life._day(4, found)
    assert (day.measured is None) == (accuracy is None or accuracy.value is None)
    assert "</svg>" in as_svg("life", [day], [])


def life(**options) -> model_life.Life:
    """A life in which nothing has happened yet."""
    upstream = Upstream(None, [], None, first_ms=0, day_s=1.0, events_per_day=100)
    return model_life.Life(upstream, **options)


def test_days_wait_for_the_services_and_for_a_command() -> None:
    """A busy machine makes days longer, and never lets one pass unseen."""
    upstream = life().upstream
    upstream.advance(1.5)
    upstream.waiting = True
    upstream.advance(9.0)
    assert upstream.days == 1.5
    upstream.waiting, upstream.most = False, 2.0
    upstream.advance(9.0)
    assert upstream.days == 2.0
    upstream.most = 1.0
    upstream.advance(1.0)
    assert upstream.days == 2.0


@pytest.mark.parametrize(
    ("after", "recovered"),
    [([0.80, 0.79], True), ([0.80], False), ([0.80, None], False), ([0.62, 0.61], False), ([None, None], False)],
)
def test_recovered_means_that_the_measured_accuracy_did(after, recovered) -> None:
    """Two whole days of the new model, nearer to the quiet days than to the bad ones; unknown days do not count."""
    story = life()
    values = [(0, "1.0.0", 0.81), (1, "1.0.0", 0.80), (5, "1.0.0", 0.60), (6, "1.0.0", None), (7, "1.0.0", 0.61)]
    values += [(8, "1.1.0", 0.85)]  # the day of the promotion is of both
    values += [(9 + n, "1.1.0", value) for n, value in enumerate(after)]
    for day, version, value in values:
        found = cohort(f"1970-01-{day + 1:02}", version, {"accuracy": Metric(value)})
        story.cohorts[found.cohort.day, version] = found
    assert story.recovered("1.1.0", 8.3) is recovered


def cohort(day: str, version: str, metrics: dict, band: Band | None = None, money: float | None = None) -> Performance:
    """A final cohort of one day."""
    return Performance(
        model="churn",
        model_version=version,
        cohort=Cohort(day, f"{day}T00:00:00Z", f"{day}T23:59:59Z"),
        status="final",
        horizon="2d",
        predictions=4,
        customers=4,
        labels=LabelCount(1, 3, 0),
        coverage=Coverage(1.0, 1.0, 1.0, 1.0, 1.0),
        metrics=metrics,
        business=Value("EUR", Metric(money)),
        estimated={"accuracy": band},
    )
