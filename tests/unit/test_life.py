"""The parts of `driftline demo-life` that need no Kafka: the picture, and the proof out of the prediction log."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from driftline.life_check import recomputed
from driftline.life_picture import Day, Moment, Range, as_svg

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
    metrics = {name: {"value": value} for name, value in {**METRICS, **told}.items()}
    cohort = {"cohort": {"day": day}, "model_version": mine, "metrics": metrics}
    assert recomputed(log, [cohort]) == pytest.approx(worst, abs=1e-12)
