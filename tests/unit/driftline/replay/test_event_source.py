"""Events made from customers: their form, their drift, the bad ones among them; and the syntax of `--drift`."""

import json
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from types import SimpleNamespace

import pytest

from driftline.commands.produce import bad_share
from driftline.errors import CommandError
from driftline.replay.event_source import EventSource, open_source
from driftline.replay.injected_drift import DriftSpecError, parse_drift
from driftline.training.spec import read_spec
from driftline.training.train import train_bundle
from schemas.bundle.inputs import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.features import UNSEEN

NOW_MS = 1_795_327_200_123  # 2026-11-22T06:00:00.123Z
FEATURES = (
    Feature(name="tenure", kind="numeric", min=0, max=72),
    Feature(name="charges", kind="numeric", nullable=True),
    Feature(name="contract", kind="categorical", categories=("Month-to-month", "Two year")),
    Feature(name="senior", kind="boolean", **{"from": "is_senior"}),
)
VALUES = (
    [1, 40, 72, 12],
    [29.85, None, 110.5, 20.0],
    ["Month-to-month", "Two year", "Two year", "Month-to-month"],
    [False, True, False, True],
)
FLAT = EventMapping(event_id="", customer_id="who", event_time="meta.at", features="")


def _source(*drifts, features=FEATURES, values=VALUES, mapping=None, ids=None, seed=1, **more):
    changes = [parse_drift(text, features) for text in drifts]
    return EventSource(features, values, mapping or EventMapping(), ids, run="run", seed=seed, drifts=changes, **more)


def _decode(records, mapping=None):
    stubs = [
        SimpleNamespace(
            topic="t", partition=0, offset=i, key=key, value=value, headers=(), timestamp=NOW_MS, timestamp_type=0
        )
        for i, (key, value) in enumerate(records)
    ]
    return EventDecoder(FEATURES, mapping or EventMapping()).decode(stubs, NOW_MS)


def _features(records):
    return [json.loads(value)["features"] for _, value in records]


def test_a_row_becomes_an_event_of_the_default_form():
    """Ids from the row's number, one event_id per event, the given time, whole numbers whole, missing as null."""
    records = _source().take(4, 0.0, NOW_MS)
    events = {key: json.loads(value) for key, value in records}

    assert sorted(events) == [b"customer-00001", b"customer-00002", b"customer-00003", b"customer-00004"]
    event = events[b"customer-00002"]
    event_id = event.pop("event_id")
    assert event_id in {"run-00000000", "run-00000001", "run-00000002", "run-00000003"}
    assert event == {
        "schema_version": 1,
        "customer_id": "customer-00002",
        "event_time": "2026-11-22T06:00:00.123Z",
        "features": {"tenure": 40, "charges": None, "contract": "Two year", "is_senior": True},
    }
    assert b'"tenure":40,' in dict(records)[b"customer-00002"]


def test_every_pass_brings_every_customer_once_in_a_new_order():
    """Three passes of 50 customers; no event_id twice."""
    values = [list(range(50)), [1.0] * 50, ["Two year"] * 50, [True] * 50]
    source = _source(values=values, ids=[f"c{i}" for i in range(50)], features=FEATURES)

    passes = [source.take(20, 0.0, NOW_MS) + source.take(30, 0.0, NOW_MS) for _ in range(3)]

    orders = [[key for key, _ in records] for records in passes]
    assert all(set(order) == {f"c{i}".encode() for i in range(50)} for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert len({json.loads(value)["event_id"] for records in passes for _, value in records}) == 150


def test_the_same_seed_gives_the_same_bytes():
    """With drift and bad records too; another seed gives others."""

    def stream(seed):
        source = _source("contract:swap=Two year>Month-to-month:0.5", seed=seed, bad=Fraction(1, 7))
        return [source.take(30, float(second), NOW_MS + second) for second in range(5)]

    assert stream(3) == stream(3)
    assert stream(3) != stream(4)


@pytest.mark.parametrize(
    "mapping",
    [
        EventMapping(),
        FLAT,
        EventMapping(event_id="meta.id", customer_id="", event_time="", features="payload.customer"),
        EventMapping(event_id="id", customer_id="customer.id", event_time="at", features="customer"),
    ],
)
def test_every_mapping_gives_events_that_the_scorer_accepts(mapping):
    """Flat, nested, ids in the key, features beside the id: decoded back to the same columns."""
    records = _source(mapping=mapping).take(4, 0.0, NOW_MS)

    batch = _decode(records, mapping)

    assert batch.rejections == [None] * 4
    assert batch.unknown_fields == 0
    rows = [int(customer[-1]) - 1 for customer in batch.customer_ids]
    assert sorted(rows) == [0, 1, 2, 3]
    assert [column[i] for i, _ in enumerate(rows) for column in batch.columns.values] == [
        column[row] for row in rows for column in VALUES
    ]


def test_a_flat_event_has_everything_at_the_top():
    """As a topic that was there before may have it."""
    key, value = _source(mapping=FLAT, ids=["a", "b", "c", "d"]).take(1, 0.0, NOW_MS)[0]
    event = json.loads(value)

    assert sorted(event) == ["charges", "contract", "is_senior", "meta", "tenure", "who"]
    assert event["who"].encode() == key
    assert event["meta"] == {"at": "2026-11-22T06:00:00.123Z"}


def test_drift_lasts_from_its_moment_to_its_end():
    """[2 s, 4 s): the moment itself belongs to it, the end does not."""
    source = _source("charges:shift=+25@2s..4s", values=[[1], [10.1], ["Two year"], [True]])

    seen = [_features(source.take(1, t, NOW_MS))[0]["charges"] for t in (0.0, 1.999, 2.0, 3.999, 4.0, 99.0)]

    assert seen == [10.1, 10.1, 35.1, 35.1, 10.1, 10.1]


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("tenure:shift=+25", [1, 40, 72, 12], [26, 65, 72, 37]),
        ("tenure:shift=-20", [1, 40, 72, 12], [0, 20, 52, 0]),
        ("tenure:scale=0.4", [1, 40, 72, 12], [0, 16, 29, 5]),
        ("charges:shift=0.1", [29.85, None, 110.5, 20.0], [29.95, None, 110.6, 20.1]),
        ("charges:scale=9e15", [29.85, None, -2.0], [9007199254740991.0, None, -9007199254740991.0]),
    ],
)
def test_numbers_move_within_their_bounds(text, before, after):
    """Clipped to min and max (or what a double counts exactly); whole stays whole; missing stays missing."""
    drift = parse_drift(text, FEATURES)
    whole = text.startswith("tenure")

    moved = [drift.apply(value, None, whole=whole) for value in before]

    assert moved == after
    assert [type(value) for value in moved] == [type(value) for value in after]


def test_shares_of_customers_are_swapped_left_out_and_unseen():
    """A quarter, a third and a tenth of 20,000 events, within four standard deviations; all of them valid."""
    source = _source(
        "contract:swap=Two year>Month-to-month:0.25",
        "charges:missing=0.3333",
        values=[[5], [1.5], ["Two year"], [True]],
    )
    features = _features(source.take(20_000, 0.0, NOW_MS))
    assert 4_755 < sum(f["contract"] == "Month-to-month" for f in features) < 5_245
    assert 6_400 < sum(f["charges"] is None for f in features) < 6_933

    records = _source("contract:unseen=0.1").take(20_000, 0.0, NOW_MS)
    batch = _decode(records)
    assert batch.rejections == [None] * 20_000
    assert 1_830 < (batch.columns.codes[:, 0] == UNSEEN).sum() < 2_170


def test_a_boolean_is_swapped_by_its_json_names():
    """Everybody becomes senior."""
    features = _features(_source("senior:swap=false>true").take(4, 0.0, NOW_MS))

    assert [f["is_senior"] for f in features] == [True, True, True, True]


def test_drift_leaves_the_customers_themselves_alone():
    """After its end the next pass has the old values again."""
    source = _source("tenure:shift=+10@0s..1s")
    source.take(4, 0.0, NOW_MS)

    assert sorted(f["tenure"] for f in _features(source.take(4, 1.0, NOW_MS))) == [1, 12, 40, 72]


def test_bad_records_are_refused_for_the_counted_reasons():
    """Evenly spread, and each with the reason that the source reports; every kind occurs."""
    source = _source(bad=Fraction(1, 10))
    records = source.take(3_000, 0.0, NOW_MS)

    rejections = _decode(records).rejections

    assert [i for i, rejection in enumerate(rejections) if rejection] == list(range(9, 3_000, 10))
    assert Counter(rejection.reason for rejection in rejections if rejection) == source.refusals
    assert sorted(source.refusals) == ["empty", "missing_feature", "not_json", "wrong_type"]
    assert {value for _, value in records if not value} == {None, b""}
    assert any(value and b":NaN" in value for _, value in records)
    assert all(key.startswith(b"customer-") for key, _ in records)


@pytest.mark.parametrize("mapping", [FLAT, EventMapping(customer_id="customer.id", features="customer")])
def test_bad_records_keep_their_reason_in_every_mapping(mapping):
    """Members beside the features are not lost with one of them."""
    source = _source(mapping=mapping, bad=Fraction(1))

    rejections = _decode(source.take(500, 0.0, NOW_MS), mapping).rejections

    assert Counter(rejection.reason for rejection in rejections) == source.refusals


@pytest.mark.parametrize(("count", "number"), [(1_000, 7), (1_000, 1_000), (999, 13), (10, 0)])
def test_a_number_of_bad_records_is_met_exactly(count, number):
    """This number of the records to come."""
    share, limit = bad_share(str(number), count)
    source = _source(bad=share, bad_limit=limit)
    source.take(count, 0.0, NOW_MS)

    assert source.made == count
    assert source.refusals.total() == number


def test_an_open_stream_stops_being_bad_after_the_number():
    """One in a hundred until there were three."""
    share, limit = bad_share("3", None)
    source = _source(bad=share, bad_limit=limit)
    source.take(299, 0.0, NOW_MS)
    assert source.refusals.total() == 2
    source.take(2_000, 0.0, NOW_MS)

    assert source.refusals.total() == 3
    assert bad_share("0.25", None) == (Fraction(1, 4), None)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "-0.1", "11", "1/0", ""])
def test_other_bad_record_counts_are_refused(text):
    """More than the ten that are sent, less than none, no number."""
    with pytest.raises(CommandError) as caught:
        bad_share(text, 10)

    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tenure", "expected FEATURE:KIND=VALUE[@FROM[..TO]]"),
        ("tenure:shift", "expected FEATURE:KIND=VALUE"),
        ("age:shift=1", "no feature 'age'; there are tenure, charges, contract, senior"),
        ("tenure:jump=1", "no drift 'jump'; there are shift, scale, swap, missing, unseen"),
        ("contract:shift=1", "shift is for numeric features, contract is categorical"),
        ("tenure:unseen=0.1", "unseen is for categorical features, tenure is numeric"),
        ("tenure:missing=0.1", "tenure is not nullable"),
        ("tenure:shift=much", "'much' is not a number"),
        ("tenure:shift=nan", "'nan' is not a number"),
        ("tenure:scale=inf", "'inf' is not a number"),
        ("charges:missing=0", "'0' is not a share"),
        ("charges:missing=1.1", "'1.1' is not a share"),
        ("contract:swap=Two year", "expected swap=OLD>NEW:SHARE"),
        ("contract:swap=Two year>Weekly", "contract has no 'Weekly'; there are Month-to-month, Two year"),
        ("senior:swap=yes>no", "senior has no 'yes'; there are true, false"),
        ("tenure:shift=1@soon", "after @ expected a time such as 30s"),
        ("tenure:shift=1@30s..20s", "ends before it starts"),
    ],
)
def test_a_drift_that_does_not_fit_is_refused_with_what_would(text, words):
    """One line that names the drift and the way out."""
    with pytest.raises(DriftSpecError) as caught:
        parse_drift(text, FEATURES)

    assert words in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("tenure:shift=1", 0.0, float("inf")),
        ("tenure:shift=1@0s", 0.0, float("inf")),
        ("tenure:shift=1@1500ms", 1.5, float("inf")),
        ("tenure:shift=1@30s..2m", 30.0, 120.0),
        ("contract:swap=Two year>Month-to-month:0.5@1h..1d", 3600.0, 86_400.0),
    ],
)
def test_moments_are_seconds_since_the_start(text, start, end):
    """In every unit that durations have."""
    drift = parse_drift(text, FEATURES)

    assert (drift.start_s, drift.end_s) == (start, end)


def test_a_source_is_opened_over_a_file_by_its_spec_or_its_bundle(tmp_path):
    """The spec's id column gives the ids and its mapping the form; without a label column; a wrong file is one line."""
    spec = tmp_path / "spec.toml"
    spec.write_text(
        '[model]\nname = "m"\nversion = "1.0.0"\n[event]\nfeatures = "f"\n[data]\ntarget = "left"\npositive = 1\n'
        'id = "who"\n[features.age]\nkind = "numeric"\nfrom = "years"\n',
        encoding="utf-8",
    )
    data = tmp_path / "customers.csv"
    data.write_text("who,age\nann,3\nbob,4\n", encoding="utf-8")

    records = open_source(data, tmp_path / "none", spec, run="r").take(2, 0.0, NOW_MS)

    assert {key: json.loads(value)["f"] for key, value in records} == {b"ann": {"years": 3}, b"bob": {"years": 4}}
    with pytest.raises(CommandError, match=r"none/manifest\.json: No such file"):
        open_source(data, tmp_path / "none", run="r")
    with pytest.raises(CommandError, match="no feature 'height'"):
        open_source(data, tmp_path / "none", spec, run="r", drifts=["height:shift=1"])
    data.write_text("who\nann\n", encoding="utf-8")
    with pytest.raises(CommandError, match=r"customers\.csv: no column age"):
        open_source(data, tmp_path / "none", spec, run="r")


def test_events_carry_the_ids_of_the_column_that_the_bundle_names(tmp_path):
    """The spec's id column is kept in the bundle; --id names another one, and a file without it has numbered rows."""
    rows = "\n".join(f"c{n},old{n},{n},{'yes' if n % 3 else 'no'}" for n in range(60))
    data = tmp_path / "customers.csv"
    data.write_text(f"client,former,height,target\n{rows}\n")
    spec = tmp_path / "spec.toml"
    spec.write_text(
        '[model]\nname = "m"\nversion = "1.0.0"\n[data]\ntarget = "target"\npositive = "yes"\nid = "client"\n'
        '[estimator]\nkind = "logistic_regression"\n[features.height]\nkind = "numeric"\n'
    )
    train_bundle(read_spec(spec), data, tmp_path / "model", datetime(2026, 1, 1, tzinfo=UTC))

    def ids(data, **options):
        source = open_source(data, tmp_path / "model", run="r", **options)
        return {key.decode() for key, _ in source.take(60, 0.0, NOW_MS)}, source.numbered

    assert ids(data) == ({f"c{n}" for n in range(60)}, False)
    assert ids(data, id_column="former") == ({f"old{n}" for n in range(60)}, False)
    other = tmp_path / "other.csv"
    other.write_text("height\n1\n2\n")
    assert ids(other) == ({"customer-00001", "customer-00002"}, True)
    with pytest.raises(CommandError, match="client"):
        ids(other, id_column="client")
