"""A window's relations from counts to a measurement, and to alerts: what is found, and what stays silent."""

import numpy as np
import pytest
from quality import together

from drift_worker.counts import aggregate
from drift_worker.relations.measure import IN_PART, NOT_ENOUGH, RelationMeasurer, Sides
from schemas.alert import AlertName
from schemas.measurement import Measurement, Sample, Window, decode_measurement


@pytest.fixture(scope="module")
def stream():
    """One stream without drift, for windows that nobody judges."""
    return together.Stream(0)


def _sides(stream, change=None, m=1500, **instead):
    vectors = stream.count(m, change)
    measured = stream.engine.measurer.features(vectors)
    score = stream.engine.measurer.score(vectors)
    sides = {"features": vectors, "score": vectors, "measured": measured, "measured_score": score, "events": m}
    return Sides(**sides | instead)


def _measure(stream, *arguments, **more):
    return stream.engine.relations.measure(_sides(stream, *arguments, **more))


def test_nothing_stands_out_where_nothing_moved(stream):
    """Of each kind the largest is shown, far from its limit."""
    found = _measure(stream)
    assert found.reason is None
    assert found.tests > 300
    assert {one.kind for one in found.moved} == {"correlation", "association", "segment", "score"}
    assert found.largest["correlation"] < 0.2
    assert found.largest["segment"] < 0.5
    assert found.largest["score"] < 0.1


@pytest.mark.parametrize("name", together.DRIFTS)
def test_what_moved_is_named(stream, name):
    """The strongest of one window is the movement that was made."""
    kind, change, feature = together.DRIFTS[name]
    first = _measure(stream, change).moved[0]
    assert first.kind == kind
    assert feature in first.features
    if kind == "segment":
        assert first.categories == ["device4"]


def test_too_few_events_are_not_enough(stream):
    """As for every feature."""
    found = _measure(stream, None, 200)
    assert (found.reason, found.moved) == (NOT_ENOUGH, [])


def test_a_window_that_an_older_version_counted_in_part_is_not_measured(stream):
    """Its events without products would be missing from the sums."""
    assert _measure(stream, events=1600).reason == IN_PART
    vectors = stream.count(1500)
    del vectors[aggregate.PRODUCTS]
    assert _measure(stream, features=vectors).reason == IN_PART


def test_predictions_that_are_missing_are_no_relation(stream):
    """Nor is a score that is not closed yet: the features are measured alone."""
    assert "score" not in _measure(stream, score={}).largest
    sides = _sides(stream)
    fewer = stream.count(1300)
    other = Sides(sides.features, fewer, sides.measured, stream.engine.measurer.score(fewer), 1500)
    assert "score" not in stream.engine.relations.measure(other).largest


def test_a_broken_or_missing_number_has_no_relations(stream):
    """Its own alert is the alert."""

    def stuck(_, events):
        events.numeric[:, 2] = 3.0

    def gone(generator, events):
        events.numeric[generator.random(len(events.scores)) < 0.3, 2] = np.nan

    for change in (stuck, gone):
        assert all("usage" not in one.features for one in _measure(stream, change).moved)


def test_a_measurement_with_relations_is_read_back(stream):
    """And one that has none, of an earlier version."""
    for relations in (_measure(stream), None):
        measurement = Measurement(
            model="m",
            model_version="1.0.0",
            reference_sha256="0",
            window=Window("15m", "a", "b"),
            complete=True,
            sample=Sample(0, 0, 0),
            relations=relations,
        )
        assert decode_measurement(measurement.encode()) == measurement


def test_a_forged_past_ends_no_evaluation(stream):
    """Any producer may write a checkpoint: its numbers can be large, and must not raise."""
    past = stream.engine.relations.past(900_000)
    past.vector[:] = 1 << 50
    past.vector[4] = 3
    forged = stream.engine.relations.past(900_000, past.vector)
    assert forged.known
    found = stream.engine.relations.measure(_sides(stream), forged)
    assert found.reason is None
    assert "score" in found.largest


def test_a_small_reference_has_no_relations():
    """And nothing of them is measured or left for a restart."""
    cells = together.cells_of(together.draw(np.random.default_rng(1), 60))
    measurer = RelationMeasurer(cells, 500)
    assert (measurer.kept, len(measurer.left_out)) == ([], 11)
    assert measurer.measure(Sides({}, {}, {}, None, 0)) is None
    assert measurer.past(900_000).windows == 0


@pytest.mark.parametrize("name", together.DRIFTS)
def test_an_episode_is_two_messages(name):
    """Firing with the relation named, resolved when it is over; and no other alert."""
    stream = together.Stream(1)
    for change in [None] * 5 + [together.DRIFTS[name][1]] * 5 + [None] * 7:
        stream.quarter(1500, change)
    kind = together.DRIFTS[name][0]
    alerts = [a for a in stream.engine.alerts if a.labels["alertname"] != AlertName.PREDICTION_DRIFT.value]
    expected = AlertName.SEGMENT_DRIFT if kind == "segment" else AlertName.RELATION_DRIFT
    assert [(a.labels["alertname"], a.status) for a in alerts] == [(expected, "firing"), (expected, "resolved")]
    assert alerts[0].evidence["relations"][0]["kind"] == kind
    assert "limit ±" in alerts[0].annotations["summary"]
    assert alerts[1].annotations["summary"].endswith("are back")
    assert alerts[0].evidence["limits"]["effect_warning"] == (0.5 if kind == "segment" else 0.2)


@pytest.mark.parametrize("change", [together.everywhere, together.mix])
def test_where_only_a_marginal_moved_relations_are_silent(stream, change):
    """Half a standard deviation for everybody; a device that gains eight points, with what depends on it."""
    found = _measure(stream, change)
    assert found.largest["correlation"] < 0.2
    assert found.largest["segment"] < 0.5
    assert found.largest["score"] < 0.2
