"""Events as other teams write them: times, ids, numbers, booleans, places in a record, presets, what is no event."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.events import NOW_MS, Decoders, record

from schemas import timestamps
from schemas.bundle.inputs import EventMapping, Feature
from schemas.bundle.manifest import Manifest
from schemas.event import EventDecoder
from schemas.rejection_reasons import Reason
from schemas.validation import Ignored

SHAPES = [json.loads(line) for line in (Path(__file__).with_name("shapes.jsonl")).read_text("utf-8").splitlines()]
FEATURES = (
    Feature(name="tenure", kind="numeric", min=0),
    Feature(name="charges", kind="numeric", parse="number", nullable=True),
    Feature(name="plan", kind="categorical", categories=(1, 2)),
    Feature(name="senior", kind="boolean", true=(1, "Y"), false=(0, "N"), nullable=True),
)
ROW = {"tenure": 6, "charges": "85.00", "plan": 2, "senior": "Y"}
EVENT = {"event_id": "e1", "customer_id": "c1", "event_time": "2026-11-22T05:00:00Z", "features": ROW}
WIDE = Decoders(features=FEATURES)


def _event(**changes):
    return json.dumps({**EVENT, **changes}).encode()


def _with(**changes):
    return _event(features={**ROW, **changes})


def _of_shape(shape):
    features = [
        Feature(name=name, **({"categories": ()} if table["kind"] == "categorical" else {}) | table)
        for name, table in shape["spec"]["features"].items()
    ]
    return Decoders(EventMapping(**shape["spec"]["event"]), features)


@pytest.mark.parametrize("shape", SHAPES, ids=[shape["name"] for shape in SHAPES])
def test_a_shape_that_others_send_has_the_outcome_beside_it(shape):
    """The definition and the batch path are compared by Decoders."""
    want = shape.get("want", {})
    batch = _of_shape(shape).one(
        None if shape["value"] is None else shape["value"].encode(),
        key=shape["key"].encode(),
        headers=[(name, text.encode()) for name, text in shape["headers"].items()],
        timestamp=want.get("kafka_timestamp", NOW_MS),
    )
    (rejection,) = batch.rejections
    assert ("ignored" if batch.ignored else rejection.reason if rejection else "accepted") == shape["verdict"]
    found = {"event_id": batch.event_ids, "customer_id": batch.customer_ids, "event_time": batch.event_times}
    for name in want.keys() & found:
        assert found[name][0] == want[name]


# --- times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms", "shown"),
    [
        ("2026-11-22T06:00Z", 1_795_327_200_000, "2026-11-22T06:00:00.000Z"),
        ("2026-11-22t06:00:00z", 1_795_327_200_000, "2026-11-22T06:00:00.000Z"),
        ("2026-11-22 06:00:00.123456+00", 1_795_327_200_123, "2026-11-22T06:00:00.123456Z"),
        ("2026-11-22T06:00:00.5+0530", 1_795_307_400_500, "2026-11-22T00:30:00.500Z"),
        ("2026-11-22T06:00-01:00", 1_795_330_800_000, "2026-11-22T07:00:00.000Z"),
        ("2026-11-22T06:00:00.5+05:30", 1_795_307_400_500, "2026-11-22T06:00:00.5+05:30"),
        ("0001-01-01T00:00+01", None, None),
    ],
)
def test_a_wider_time_is_written_in_utc_and_rfc3339_stays_as_it_is(text, ms, shown):
    """What every consumer can read is repeated; any other text is written anew."""
    assert timestamps.TimeForm().read(text) == (None if ms is None else (ms, shown))
    assert timestamps.parse(text) == ms


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-22T07:00:00", "2026-11-22T06:00:00.000Z"),
        ("2026-07-22 07:00", "2026-07-22T05:00:00.000Z"),
        ("2026-10-25T02:30:00", "2026-10-25T00:30:00.000Z"),  # twice: the first
        ("2026-03-29T02:30:00", "2026-03-29T01:30:00.000Z"),  # never
        ("2026-11-22T07:00:00Z", "2026-11-22T07:00:00Z"),
        ("1890-01-01T00:00:00", "1889-12-31T23:50:39.000Z"),
    ],
)
def test_a_time_without_an_offset_is_of_the_zone(text, shown):
    """An offset that is there wins."""
    assert timestamps.TimeForm(zone="Europe/Paris").read(text)[1] == shown


@pytest.mark.parametrize(
    ("unit", "value", "ms", "shown"),
    [
        ("s", 1_795_327_200, 1_795_327_200_000, "2026-11-22T06:00:00.000Z"),
        ("s", 1_795_327_200.123, 1_795_327_200_123, "2026-11-22T06:00:00.123Z"),
        ("s", -0.5, -500, "1969-12-31T23:59:59.500Z"),
        ("ms", "1795327200123", 1_795_327_200_123, "2026-11-22T06:00:00.123Z"),
        ("ms", 1_795_327_200_123.9, 1_795_327_200_123, "2026-11-22T06:00:00.123Z"),
        ("us", 1_795_327_200_123_456, 1_795_327_200_123, "2026-11-22T06:00:00.123456Z"),
        ("ns", "1795327200123456789", 1_795_327_200_123, "2026-11-22T06:00:00.123456789Z"),
        ("ns", 1_795_327_200_123_456_789, 1_795_327_200_123, "2026-11-22T06:00:00.123456789Z"),
        ("ms", -62_135_596_800_000, -62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        ("ms", -62_135_596_800_001, None, None),
        *(
            (("ms"), wrong, None, None)
            for wrong in ("", "1.5", "1e3", " 1", "+1", "٣", "2026", True, None, [], 1e400)[:4]
        ),
        *((("ms"), wrong, None, None) for wrong in ("+1", "\u0663", True, None, [], float("inf"), "9" * 40, 10**30)),
    ],
)
def test_a_number_since_the_epoch(unit, value, ms, shown):
    """A JSON number or a string of digits; alone and in batches it is the same time."""
    form = timestamps.TimeForm(unit)
    assert form.read(value) == (None if ms is None else (ms, shown))
    for values in ([value], [value, 0], [value, "0"], [0.5, value]):
        times, texts = form.read_batch(values)
        at = values.index(value)
        assert times[at] == (timestamps.INVALID if ms is None else ms)
        assert texts[at] == (shown or "")


def test_a_time_in_the_wrong_unit_is_in_the_future():
    """Milliseconds where seconds are declared: a year that no calendar has."""
    decoders = Decoders(EventMapping(time_unit="s"), FEATURES)
    assert decoders.reason(_event(event_time=1_795_327_200_123)) == "event_time_in_future"
    assert decoders.reason(_event(event_time=10**17)) == "event_time_in_future"
    assert decoders.reason(_event(event_time=10**40)) == "envelope"
    assert decoders.reason(_event(event_time="2026-11-22T06:00:00Z")) == "envelope"


# --- values ---------------------------------------------------------------------------------------------------------


def test_values_in_the_ways_that_the_spec_states():
    """Strings that are numbers, integers that are categories, listed booleans: the values that the model has."""
    assert WIDE.row(_with()) == {"tenure": 6.0, "charges": 85.0, "plan": "2", "senior": True}
    assert WIDE.row(_with(charges=-0.5, plan="1", senior=0)) == {
        "tenure": 6.0,
        "charges": -0.5,
        "plan": "1",
        "senior": False,
    }
    assert WIDE.row(_with(charges=None, plan=7, senior=None))["plan"] == "7"
    batch = WIDE.decode([record(_with(charges=text)) for text in ("1", "-2.5e1", "0", "1e-3")])
    np.testing.assert_array_equal(batch.columns.numeric[:, 1], [1.0, -25.0, 0.0, 0.001])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *(
            ("charges", text, "wrong_type")
            for text in ("", " 1", "1 ", "01", "1.", ".5", "+1", "1,5", "0x1", "nan", "1_0", "٣")
        ),
        *(("charges", text, "wrong_type") for text in ("1\n", "[1]", "null", "1,2", "\u00a01")),
        ("charges", "1e400", "not_finite"),
        ("charges", "-" + "9" * 400, "not_finite"),
        ("charges", "9007199254740992", "out_of_range"),
        ("tenure", "6", "wrong_type"),
        ("senior", True, "wrong_type"),
        ("senior", "y", "wrong_type"),
        ("senior", 2, "wrong_type"),
        ("plan", 1.0, "wrong_type"),
        ("plan", True, "wrong_type"),
        ("plan", 2**53, "out_of_range"),
    ],
)
def test_no_other_value_is_taken_for_one(name, value, reason):
    """Between records that are good, too: whatever a string joins to, it is no number of its neighbour's."""
    assert WIDE.reason(_with(**{name: value})) == reason
    batch = WIDE.decode([record(_with()), record(_with(**{name: value})), record(_with(charges="3"))])
    assert [r and r.reason for r in batch.rejections] == [None, reason, None]
    np.testing.assert_array_equal(batch.columns.numeric[:, 1], [85.0, 3.0])


def test_equal_numbers_are_one_json_value_and_true_is_another():
    """1.0 is 1; with both kinds in the lists, true is not 1."""
    assert WIDE.row(_with(senior=1.0))["senior"] is True
    both = Decoders(features=(Feature(name="senior", kind="boolean", true=(True, 0), false=(1, False)),))
    rows = [both.row(_event(features={"senior": value}))["senior"] for value in (True, 1, 0, False)]
    assert rows == [True, False, True, False]


def test_ids_may_be_integers():
    """As their decimal text, which is compared with the record's key."""
    batch = WIDE.decode([record(_event(customer_id=value), key=b"-17") for value in (-17, "-17", 9007199254740991)])
    assert list(batch.customer_ids) == ["-17", "-17", "9007199254740991"]
    assert batch.key_mismatches == 1


@pytest.mark.parametrize("value", [2**53, -(2**53), 820_982_911_946_154_508])
def test_an_id_that_is_too_large_an_integer_is_named_as_one(value):
    """It is an integer: the detail must not leave it at "expected an integer, got a number"."""
    rejection = WIDE.rejection(_event(customer_id=value))
    assert (rejection.reason, rejection.path) == ("envelope", ("customer_id",))
    assert rejection.detail.endswith("or an integer below 2^53, got a larger one: a number")
    assert rejection.detail.isascii()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"kind": "categorical", "categories": ("a",), "parse": "number"}, "parse: only a numeric"),
        ({"kind": "numeric", "true": (1,), "false": (0,)}, "only a boolean"),
        ({"kind": "boolean", "true": (1,)}, "and one of false"),
        ({"kind": "boolean", "true": (1,), "false": (1.0,)}, "listed twice"),
        ({"kind": "categorical", "categories": (1, "1")}, "listed twice"),
        ({"kind": "numeric", "from": "a..b"}, "empty part"),
    ],
)
def test_a_feature_that_cannot_be_read_is_refused(members, message):
    """When the bundle is made and when it is loaded."""
    with pytest.raises(ValueError, match=message):
        Feature(name="x", **members)


# --- places ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ['size "in"', "back\\slash", "tab\tname", "a\nb", "\x1b[2J", "\x9b\u202e", "[/x]", "é", "{0}%s"]
)
def test_a_name_may_have_any_character(name):
    """Of a feature, of a category, and on a path; one that JSON writes as an escape, too."""
    features = (
        Feature(name=name, kind="numeric"),
        Feature(name="plan", kind="categorical", categories=(name,), nullable=True),
        Feature(name="inner", kind="numeric", nullable=True, **{"from": f"{name}2.x"}),
    )
    events = Decoders(features=features)
    assert events.row(_event(features={name: 5, "plan": name, f"{name}2": {"x": 6}})) == {
        name: 5.0, "plan": name, "inner": 6.0,
    }  # fmt: skip
    assert events.row(_event(features={name: 5, "plan": f"{name}x"}))["plan"] == f"{name}x"
    assert events.reason(_event(features={name: "5"})) == "wrong_type"
    assert events.reason(_event(features={f"{name} ": 5})) == "missing_feature"
    mapped = Decoders(EventMapping(event_id=name, customer_id="c", event_time="t", features="f"), features)
    at = "2026-11-22T05:00:00Z"
    batch = mapped.one(json.dumps({name: "e1", "c": "c1", "t": at, "f": {name: 5}}).encode())
    assert list(batch.event_ids) == ["e1"]


ITEMS = Decoders(
    EventMapping(
        event_id="meta.0", customer_id="$key.customer.id", event_time="$header.at", features="body|json.rows.1"
    ),
    (
        Feature(name="price", kind="numeric", **{"from": "items.0.price"}),
        Feature(name="age", kind="numeric", nullable=True, **{"from": "extra|json.age"}),
    ),
)
BODY = {"rows": [None, {"items": [{"price": 5, "more": 1}, {"price": 6}], "extra": '{"age": 40}', "other": 1}]}


def _items(body=BODY, key=b'{"customer": {"id": 17}}', at=b"2026-11-22T05:00:00Z", **more):
    value = {"meta": ["e1"], "body": body if isinstance(body, str) else json.dumps(body)}
    return ITEMS.one(json.dumps(value).encode(), key=key, headers=[("at", at)] if at else [], **more)


def test_paths_through_arrays_texts_keys_and_headers():
    """Unknown fields are counted within them, other elements of an array are none."""
    batch = _items()
    assert (batch.event_ids[0], batch.customer_ids[0], batch.event_times[0]) == ("e1", "17", "2026-11-22T05:00:00Z")
    assert batch.columns.numeric.tolist() == [[5.0, 40.0]]
    assert (batch.unknown_fields, batch.key_mismatches) == (2, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"body": "no JSON"}, "envelope"),
        ({"body": "[1]"}, "envelope"),
        ({"body": '{"rows": []}'}, "envelope"),
        ({"body": '{"rows": [1, 2]}'}, "envelope"),
        ({"body": '{"rows": [1, {"items": {}}]}'}, "missing_feature"),
        ({"body": '{"rows": [1, {"items": [{"price": 5}], "extra": "x"}]}'}, "wrong_type"),
        ({"body": '{"rows": [1, {"items": [{"price": 5}], "extra": {}}]}'}, "wrong_type"),
        ({"body": '{"rows": [1, {"items": [{"price": 5}], "extra": null}]}'}, None),
        ({"key": None}, "envelope"),
        ({"key": b"17"}, "envelope"),
        ({"key": b"{"}, "envelope"),
        ({"key": b'{"customer": {"id": true}}'}, "envelope"),
        ({"key": b"\xff"}, "envelope"),
        ({"at": None}, "envelope"),
        ({"at": b"\xff"}, "envelope"),
        ({"at": b"yesterday"}, "envelope"),
    ],
)
def test_what_is_not_there_is_named(changes, reason):
    """In the contract's order, as everywhere."""
    (rejection,) = _items(**changes).rejections
    assert (rejection and rejection.reason) == reason


def test_the_last_of_several_headers_counts():
    """As Kafka's clients read it."""
    headers = [("at", b"nonsense"), ("at", b"2026-11-22T05:00:00Z")]
    batch = ITEMS.one(json.dumps({"meta": ["e1"], "body": json.dumps(BODY)}).encode(), key=b'{"customer": {"id": 1}}',
                      headers=headers)  # fmt: skip
    assert batch.rejections == [None]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"event_id": "$nothing"}, r"expected a path, \$key"),
        ({"event_id": "$timestamp"}, "cannot be there"),
        ({"features": "$key"}, "cannot be there"),
        ({"time_zone": "Europe/Atlantis"}, "IANA"),
        ({"time_zone": "UTC", "time_unit": "ms"}, "has none"),
        ({"only": {"op": []}}, "expected a list"),
        ({"only": {"": ["c"]}}, "expected a list"),
        ({"preset": "debezium"}, "expected where the customer is"),
        ({"time_unit": "days"}, "time_unit"),
    ],
)
def test_a_mapping_that_cannot_be_read_is_refused(event, message):
    """One line, with its key."""
    with pytest.raises(ValueError, match=message):
        EventMapping.model_validate(event)


# --- what is no event -----------------------------------------------------------------------------------------------

ONLY = Decoders(EventMapping(only={"op": ["c", 1], "$header.kind": ["customer"]}, tombstones="ignore"), FEATURES)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (_event(op="c"), b"customer", None),
        (_event(op=1), b"customer", None),
        (_event(op="d"), b"customer", Ignored.ONLY),
        (_event(op=True), b"customer", Ignored.ONLY),
        (_event(), b"customer", Ignored.ONLY),
        (_event(op="c"), b"order", Ignored.ONLY),
        (b"\x00\x00\x00\x00\x01avro", b"order", Ignored.ONLY),
        (b"{}", b"customer", Ignored.ONLY),
        (None, b"customer", Ignored.TOMBSTONE),
        (b"", b"customer", Reason.EMPTY),
        (b"[]", b"customer", Reason.ENVELOPE),
        (b"{", b"customer", Reason.NOT_JSON),
        (_event(op="c", features={}), b"customer", Reason.MISSING_FEATURE),
        (_event(op="d", features={}), b"customer", Ignored.ONLY),
    ],
)
def test_a_record_that_is_no_event_is_ignored(value, kind, expected):
    """It is neither accepted nor rejected, alone and between others."""
    headers = [("kind", kind)]
    good = record(_event(op="c"), headers=[("kind", b"customer")])
    for records in ([record(value, headers=headers)], [good, record(value, headers=headers), good]):
        batch = ONLY.decode(records)
        at = len(records) // 2
        if isinstance(expected, Ignored):
            assert batch.ignored == {at: expected}
            assert batch.rejections == [None] * len(records)
        else:
            assert batch.ignored == {}
            assert (batch.rejections[at] and batch.rejections[at].reason) == expected
        assert len(batch.accepted) == len(records) - (expected is not None)


# --- presets --------------------------------------------------------------------------------------------------------

PLAIN = (Feature(name="tenure", kind="numeric"),)
DEBEZIUM = Decoders(EventMapping(preset="debezium", customer_id="payload.after.id"), PLAIN)
CLOUD = Decoders(EventMapping(preset="cloudevents", only={"type": ["customer"]}), PLAIN)


def _change(op, after, **more):
    payload = {"before": None, "after": after, "source": {"ts_ms": 1}, "op": op, "ts_ms": NOW_MS, **more}
    return payload, {"schema": {"type": "struct"}, "payload": payload}


def test_debezium_with_and_without_schemas_in_one_batch():
    """The envelope's own fields are not unknown; those of the row are."""
    values = [
        one
        for op, after in (("c", {"id": 1, "tenure": 5, "x": 1}), ("r", {"id": 2, "tenure": 6}), ("d", None))
        for one in _change(op, after)
    ]
    batch = DEBEZIUM.decode([record(json.dumps(value).encode()) for value in [*values, *values[::-1]]])
    assert list(batch.customer_ids) == ["1", "1", "2", "2", "2", "2", "1", "1"]
    assert batch.columns.numeric[:, 0].tolist() == [5, 5, 6, 6, 6, 6, 5, 5]
    assert batch.accepted.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert batch.ignored == dict.fromkeys([4, 5, 6, 7], Ignored.ONLY)
    assert batch.unknown_fields == 4
    assert DEBEZIUM.one(None).ignored == {0: Ignored.TOMBSTONE}
    assert batch.event_times[0] == "2026-11-22T06:00:00.000Z"


def test_cloudevents_in_both_modes_in_one_batch():
    """A header decides; attributes are headers in the binary mode."""
    structured = {"specversion": "1.0", "id": "A", "type": "customer", "source": "/crm", "subject": "c1",
                  "time": "2026-11-22T05:00:00Z", "data": {"tenure": 5}}  # fmt: skip
    headers = [(f"ce_{name}", str(value).encode()) for name, value in structured.items() if name != "data"]
    other = [(name, b"order" if name == "ce_type" else value) for name, value in headers]
    batch = CLOUD.decode(
        [
            record(json.dumps(structured).encode()),
            record(b'{"tenure": 6}', headers=headers),
            record(b"\x00no JSON", headers=other),
            record(json.dumps({**structured, "type": "order"}).encode()),
            record(b'{"tenure": 7, "x": 1}', headers=headers),
        ]
    )
    assert list(batch.event_ids) == ["A"] * 3
    assert batch.columns.numeric[:, 0].tolist() == [5, 6, 7]
    assert batch.ignored == {2: Ignored.ONLY, 3: Ignored.ONLY}
    assert batch.unknown_fields == 1


def test_what_earlier_versions_did_not_know_is_written_only_where_it_is_used():
    """They reject unknown members of a manifest."""
    assert EventMapping().model_dump() == {
        "event_id": "event_id",
        "customer_id": "customer_id",
        "event_time": "event_time",
        "features": "features",
    }
    for mapping in (DEBEZIUM.mapping, CLOUD.mapping, ITEMS.mapping, ONLY.mapping):
        assert EventMapping.model_validate_json(mapping.model_dump_json()) == mapping
    for feature in FEATURES:
        written = feature.model_dump_json(by_alias=True, exclude_none=True)
        assert Feature.model_validate_json(written) == feature
    assert "integers" in Manifest.model_json_schema()["$defs"]["Feature"]["properties"]


def test_an_empty_batch_has_two_forms_without_rows():
    """As nothing is decoded, nothing is merged."""
    batch = EventDecoder(PLAIN, CLOUD.mapping).decode([], NOW_MS)
    assert (len(batch.accepted), batch.rejections, batch.columns.n) == (0, [], 0)


# --- records that other producers' own libraries have written (producers/README.md) ---------------------------------

ROW_FEATURES = (
    Feature(name="tenure", kind="numeric"),
    Feature(name="monthly_charges", kind="numeric", parse="number"),
    Feature(name="contract", kind="categorical", categories=("Month-to-month",)),
    Feature(name="senior", kind="boolean"),
)


def _written(name):
    lines = (Path(__file__).parent / "producers" / name).read_text("utf-8").splitlines()
    for line in map(json.loads, lines):
        key, value = (None if line[part] is None else line[part].encode() for part in ("key", "value"))
        headers = [(header, text.encode()) for header, text in line.get("headers", {}).items()]
        yield record(value, key=key, headers=headers)


@pytest.mark.parametrize("customer_id", ["payload.after.id", "after.id"])
def test_debezium_as_its_own_classes_and_kafkas_converter_write_it(customer_id):
    """Create, update and read are scored, deletes and tombstones are ignored, with schemas and without."""
    decoders = Decoders(EventMapping(preset="debezium", customer_id=customer_id), ROW_FEATURES)
    batch = decoders.decode(list(_written("debezium.jsonl")))
    assert batch.accepted.tolist() == [0, 1, 2, 5, 6, 7]
    assert list(batch.customer_ids) == ["1000", "1001", "1002"] * 2
    assert batch.ignored == {3: Ignored.ONLY, 4: Ignored.TOMBSTONE, 8: Ignored.ONLY, 9: Ignored.TOMBSTONE}
    assert batch.unknown_fields == 0
    assert set(batch.event_times) == {"2026-11-22T06:00:00.123Z"}
    assert batch.columns.numeric.tolist() == [[6.0, 85.0]] * 6


def test_cloudevents_as_their_sdk_writes_them():
    """Both modes, an extension attribute as the customer's id, and a type that is no event of this model."""
    records = list(_written("cloudevents.jsonl"))
    only = {"type": ["com.example.customer.updated"]}
    decoders = Decoders(EventMapping(preset="cloudevents", only=only), ROW_FEATURES)
    batch = decoders.decode(records, NOW_MS + 10_000)
    assert list(batch.event_ids) == ["A0", "A1", "A2", "A3"]
    assert list(batch.customer_ids) == ["c0", "c1", "c2", "c3"]
    assert batch.event_times[1] == "2026-11-22T06:00:01.123000Z"
    assert batch.ignored == {4: Ignored.ONLY, 5: Ignored.ONLY}
    assert batch.unknown_fields == 0
    tenant = Decoders(EventMapping(preset="cloudevents", customer_id="customerid", only=only), ROW_FEATURES)
    assert [r and r.reason for r in tenant.decode(records[:4], NOW_MS + 10_000).rejections] == [
        *[Reason.ENVELOPE] * 2,
        *[None] * 2,
    ]
    assert list(tenant.decode(records[2:4], NOW_MS + 10_000).customer_ids) == ["17", "17"]
