"""Which lane serves: the library where it is installed, wanted, of the right interface and equal on golden rows."""

import sys
from types import SimpleNamespace

import pytest
from support import bundles
from support.events import NOW_MS, raw, record

from schemas.validation import Rules
from scorer.model import load
from scorer.native.library import INTERFACE, NAME, lane_for
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


def _library(interface=INTERFACE, encoded=_OTHER):
    made = SimpleNamespace(encode=lambda *_: encoded)
    return SimpleNamespace(
        INTERFACE=interface,
        VERSION="0.0.9",
        Headers=lambda *_: None,
        Encoder=SimpleNamespace(binary=lambda *_: made),
    )


def test_without_the_library_python_serves(model, monkeypatch):
    """It is optional: nothing is logged, and the state names why."""
    monkeypatch.setitem(sys.modules, NAME, None)
    lane = lane_for("auto", model, "g")
    assert lane.predictions is None
    assert lane.state() == {"predictions": "python", "why_not_native": "driftline-native is not installed"}


@pytest.mark.parametrize(
    ("library", "why"),
    [
        (_library(interface=INTERFACE + 1), f"driftline-native 0.0.9 has interface {INTERFACE + 1}, expected"),
        (_library(), "encodes the golden rows differently"),
        (_library(encoded=None), "does not take the golden rows"),
    ],
    ids=["interface", "other bytes", "no bytes"],
)
def test_a_library_that_does_not_prove_itself_does_not_serve(model, monkeypatch, library, why):
    """Neither one of another version nor one with a fault."""
    monkeypatch.setitem(sys.modules, NAME, library)
    lane = lane_for("auto", model, "g")
    assert lane.predictions is None
    assert why in lane.why_not_native


@pytest.mark.parametrize(
    ("wanted", "prevented", "why"),
    [("python", None, "SCORER_LANE is python"), ("auto", "traces are on", "traces are on")],
)
def test_python_serves_where_it_is_told_to_or_must(model, monkeypatch, wanted, prevented, why):
    """The library is not even imported."""
    monkeypatch.setitem(sys.modules, NAME, _library())
    assert lane_for(wanted, model, "g", prevented=prevented).state() == {"predictions": "python", "why_not_native": why}


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
