"""Which lane serves: the library where it is installed, wanted, of the right interface and equal on golden rows."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support import bundles
from support.events import NOW_MS, raw, record

from kafka_runtime.native.library import INTERFACE, NAME
from schemas.validation import Rules
from scorer.model import load
from scorer.native.lane import lane_for
from scorer.pipeline import Pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model, loaded from its bundle as the scorer loads it."""
    directory = tmp_path_factory.mktemp("bundle")
    bundles.write(directory)
    return load(directory, None)


class _Opened:
    """A batch of one record too few."""

    records = 1
    size = 61

    def seal(self, *_):
        return bytes(61)


_OTHER = ((_Opened(),), 0)


def _decoded(_, records, __):
    """Return that the library reads none of them: then both lanes read alike."""
    return SimpleNamespace(
        accepted=b"",
        rest=list(range(len(records))),
        event_ids=[],
        customer_ids=[],
        event_times=[],
        event_time_ms=b"",
        numbers=b"",
        codes=b"",
        key_mismatches=0,
    )


def _blind(self, records, latest_ms):
    """Return that all are left out, and none is Python's."""
    return SimpleNamespace(**{**vars(_decoded(self, records, latest_ms)), "rest": []})


def _library(interface=INTERFACE, encoded=_OTHER, decode=_decoded):
    made = SimpleNamespace(encode=lambda *_: encoded)
    return SimpleNamespace(
        INTERFACE=interface,
        VERSION="0.0.9",
        Headers=lambda *_: None,
        Encoder=SimpleNamespace(binary=lambda *_: made),
        Decoder=lambda *_: SimpleNamespace(decode=lambda *asked: decode(None, *asked)),
    )


def test_without_the_library_python_serves(model, monkeypatch):
    """It is optional: nothing is logged, and the state names why."""
    monkeypatch.setitem(sys.modules, NAME, None)
    lane = lane_for("auto", model, "g", Rules())
    assert (lane.events, lane.predictions) == (None, None)
    python = {"served_by": "python", "why_not_native": "driftline-native is not installed"}
    assert lane.state() == {"events": python, "predictions": python}


@pytest.mark.parametrize(
    ("library", "events", "predictions"),
    [
        (_library(interface=INTERFACE + 1), "0.0.9 has interface", "0.0.9 has interface"),
        (_library(), None, "encodes the golden rows differently"),
        (_library(encoded=None), None, "does not take the golden rows"),
        (_library(decode=_blind), "reads the golden rows differently", "encodes the golden rows differently"),
    ],
    ids=["interface", "other bytes", "no bytes", "other events"],
)
def test_a_library_that_does_not_prove_itself_does_not_serve(model, monkeypatch, library, events, predictions):
    """Neither one of another version nor one with a fault; each half is tried on its own."""
    monkeypatch.setitem(sys.modules, NAME, library)
    lane = lane_for("auto", model, "g", Rules())
    for part, why, wanted in (
        (lane.events, lane.why_not_events, events),
        (lane.predictions, lane.why_not_predictions, predictions),
    ):
        assert (part is None) == (wanted is not None)
        assert (wanted or "") in (why or "")


def test_python_serves_where_it_is_told_to(model, monkeypatch):
    """The library is not even imported."""
    monkeypatch.setitem(sys.modules, NAME, _library())
    python = {"served_by": "python", "why_not_native": "SCORER_LANE is python"}
    assert lane_for("python", model, "g", Rules()).state() == {"events": python, "predictions": python}


def test_python_encodes_where_it_must(model, monkeypatch):
    """Events are read by the library all the same."""
    monkeypatch.setitem(sys.modules, NAME, _library())
    lane = lane_for("auto", model, "g", Rules(), prevented="traces are on")
    assert lane.state() == {
        "events": {"served_by": "native", "why_not_native": None},
        "predictions": {"served_by": "python", "why_not_native": "traces are on"},
    }


def test_what_the_lane_hands_back_python_answers(model):
    """A batch that the library does not take has the same answer as without a lane."""
    records = [record(raw(), offset=at) for at in range(3)]
    back = SimpleNamespace(encode=lambda *_: None)
    found = []
    for lane in (back, None):
        pipeline = Pipeline(model, Rules(), "g", 900_000, lane=lane)
        found.append(pipeline.answer(records, "t", 3, lambda: NOW_MS, lambda: 0.0).predictions)
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_a_split_has_no_lane(model):
    """Its predictions are of two models."""
    with pytest.raises(ValueError, match="one model"):
        Pipeline(model, Rules(), "g", 900_000, SimpleNamespace(), lane=SimpleNamespace())


def test_a_model_in_frame_form_has_its_events_read_by_python(model, monkeypatch):
    """It needs the values as they were, and the library keeps numbers and codes only."""
    monkeypatch.setitem(sys.modules, NAME, _library())
    lane = lane_for("auto", replace(model, form="frame"), "g", Rules())
    assert (lane.events, lane.why_not_events) == (
        None,
        "the model is scored in frame form, which needs the values as they were",
    )
