"""`driftline report`: which records are taken, how far back, and the rows that another library's report is made of."""

import sys

import bundles
import numpy as np
import pytest

from driftline.errors import CommandError
from driftline.evidently_report import frames
from driftline.report import Collected, command, since_ms
from schemas.alert import Alert, fingerprint
from schemas.measurement import Measurement, Sample, Window
from schemas.rfc3339 import render

NOW_MS = 1_795_327_200_000  # 2026-11-22T06:00:00Z
HEADER = "tenure,monthly_charges,total_charges,contract,payment,senior,partner"


def _measurement(model, start_ms=NOW_MS - 900_000):
    return Measurement(
        model=model,
        model_version="1.4.0",
        reference_sha256="ab12",
        window=Window("15m", render(start_ms), render(start_ms + 900_000)),
        complete=True,
        sample=Sample(1, 0, 0),
    )


def _alert(model, starts_ms, ends_ms=None):
    labels = {"alertname": "FeatureDrift", "severity": "warning", "model": model, "feature": "tenure"}
    return Alert(
        fingerprint=fingerprint(labels),
        status="firing" if ends_ms is None else "resolved",
        labels=labels,
        annotations={"summary": "s"},
        starts_at=render(starts_ms),
        ends_at=None if ends_ms is None else render(ends_ms),
        sequence=1,
        evidence={},
    )


@pytest.mark.parametrize(
    ("text", "ms"),
    [("7d", NOW_MS - 604_800_000), ("2h", NOW_MS - 7_200_000), ("2026-11-22T05:00:00Z", NOW_MS - 3_600_000)],
)
def test_how_far_back_is_a_duration_or_a_date_time(text, ms):
    """As with the dead letters."""
    assert since_ms(text, NOW_MS) == ms


@pytest.mark.parametrize("text", ["", "7", "yesterday", "-1h", "0d"])
def test_anything_else_is_wrong_use(text):
    """One line that names the option."""
    with pytest.raises(CommandError, match="--since"):
        since_ms(text, NOW_MS)


def test_records_of_both_topics_become_a_story_for_each_model():
    """Counts are passed by, garbage is counted, a tombstone is nothing; an alert of a model without windows is left."""
    found = Collected(NOW_MS - 1000)
    for key, value in [
        (b"a/15m", _measurement("a").encode()),
        (b"b/15m", _measurement("b").encode()),
        (b"a/15m/counts", b"\x00"),
        (b"a/15m", b"{"),
        (None, b'{"version": 2}'),
        (b"a/15m", None),
    ]:
        found.measurement(key, value)
    for value in (
        _alert("a", NOW_MS - 9000).encode(),
        _alert("c", NOW_MS - 9000).encode(),
        b"garbage",
        None,
    ):
        found.alert(value)
    assert sorted(found.histories) == ["a", "b"]
    assert [t.feature for t in found.histories["a"].story().told] == ["tenure"]
    assert found.passed_over == 3


def test_an_episode_that_ended_before_is_left_out_and_an_open_one_is_not():
    """However long ago it began."""
    found = Collected(NOW_MS - 1000)
    found.measurement(b"a/15m", _measurement("a").encode())
    found.alert(_alert("a", NOW_MS - 90_000, NOW_MS - 2000).encode())
    found.alert(_alert("a", NOW_MS - 80_000, NOW_MS - 500).encode())
    found.alert(_alert("a", NOW_MS - 70_000).encode())
    assert [t.starts_ms for t in found.histories["a"].story().told] == [NOW_MS - 70_000, NOW_MS - 80_000]


def test_without_the_library_one_line_says_how_to_install_it(tmp_path, monkeypatch):
    """Exit code 2, and nothing is written."""
    monkeypatch.setitem(sys.modules, "evidently", None)
    out = tmp_path / "report.html"
    with pytest.raises(CommandError, match="pip install 'driftline\\[evidently\\]'") as caught:
        command(out=out, evidently=True, current=tmp_path / "rows.csv", model=tmp_path)
    assert caught.value.exit_code == 2
    assert not out.exists()


def test_the_options_of_the_two_reports_are_not_mixed(tmp_path):
    """Each names what is missing or too much."""
    with pytest.raises(CommandError, match="name it with --current"):
        command(evidently=True, current=None)
    with pytest.raises(CommandError, match="--current is for --evidently"):
        command(current=tmp_path / "rows.csv")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A small bundle with a reference of 60 rows."""
    directory = tmp_path_factory.mktemp("report") / "model"
    bundles.write(directory)
    return directory


def test_a_file_and_the_reference_become_two_frames_with_the_same_columns(tmp_path, bundle):
    """Numbers as numbers, all else as text, missing as NaN; what the file has besides the features is left out."""
    current = tmp_path / "rows.csv"
    rows = ["12,70.5,,One year,Mail,1,no,x", "3,20,100,Three year,,0,,y"]
    current.write_text("\n".join([f"{HEADER},nobody", *rows]))
    reference, now = frames(current, bundle)
    assert list(now.columns) == list(reference.columns) == HEADER.split(",")
    assert (len(reference), len(now)) == (60, 2)
    assert now["tenure"].tolist() == [12.0, 3.0]
    assert np.isnan(now["total_charges"][0])
    assert now["contract"].tolist() == ["One year", "Three year"]
    assert now["senior"].tolist() == ["true", "false"]
    assert np.isnan(now["partner"][1])
    assert reference["contract"].tolist()[:2] == ["Month-to-month", "One year"]
    assert reference["senior"].tolist()[:2] == ["true", "false"]
    assert np.isnan(reference["payment"][0])


def test_a_prediction_in_the_file_is_compared_with_the_references_scores(tmp_path, bundle):
    """The reference's scores run from 0 to 1 and the threshold is a half."""
    current = tmp_path / "rows.jsonl"
    row = '{"tenure": 12, "monthly_charges": 70.5, "total_charges": 1, "contract": "One year", "payment": "Mail", '
    current.write_text(row + '"senior": true, "partner": false, "probability": 0.25, "label": false}\n')
    reference, now = frames(current, bundle)
    assert now[["probability", "label"]].values.tolist() == [[0.25, "false"]]
    assert reference["probability"].tolist()[::59] == [0.0, 1.0]
    assert reference["label"].value_counts().to_dict() == {"false": 30, "true": 30}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "rows.csv: No such file"),
        ("tenure,contract\n1,One year\n", "no columns monthly_charges"),
        (f"{HEADER}\nold,1,1,a,b,0,0\n", "tenure: not a number in 1 row"),
        (f"{HEADER},label\n1,1,1,a,b,0,0,perhaps\n", "label: not as in a prediction"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tmp_path, bundle, text, says):
    """It names the file and the column."""
    current = tmp_path / "rows.csv"
    if text is not None:
        current.write_text(text)
    with pytest.raises(CommandError, match=says):
        frames(current, bundle)


def test_a_bundle_that_is_none_is_one_line(tmp_path):
    """It names the manifest."""
    with pytest.raises(CommandError, match=r"manifest\.json: No such file"):
        frames(tmp_path / "rows.csv", tmp_path)
