"""The library reads events as Python does: the same verdicts, texts, times and bits, and never more."""

import json
import struct
from random import Random

import pytest
from hostile.corpus import CORPUS
from hostile.mutate import mutate
from support import bundles
from support.events import FEATURES, GOOD, NOW_MS, raw, record, with_features, without, without_feature

from schemas.bundle.inputs import EventMapping
from schemas.event import EventDecoder
from schemas.native_events import NativeDecoder, unfit
from schemas.validation import Rules

library = pytest.importorskip("driftline_native", reason="driftline-native is not built: make native")

MANIFEST = bundles.manifest(bundles.fitted())
RULES = (Rules(), Rules(reject_unknown_fields=True, detail_values=True), Rules(max_event_bytes=1100))
GOOD_ONES = [
    raw(),
    with_features(tenure=1.5, monthly_charges=1e-5),
    json.dumps(GOOD, indent=1).encode(),
    with_features(total_charges=None, payment=None, partner=None),
    without("schema_version"),
    without_feature("payment"),
    raw(event_time="2024-02-29T23:59:59.9Z"),
]
TOKENS = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\n", b"\x00", b"\xff", b"\x7f", b"1e", b"-"),
    *(b"0", b"00", b".", b"e5", b"E+3", b"1e400", b"-0", b"-0.0", b"0.1e-7", b"9007199254740992", b"9007199254740991"),
    *(b"true", b"null", b"NaN", b"\xc3\xa9", b"\xc3", b'"x":1,', b"Z", b"T", b"2026", b"+01:00", b".123456789"),
    *(b"\\u0041", b"\xed\xa0\x80", b"123456789.123456789"),
]


def _decoders(rules):
    python = EventDecoder(FEATURES, EventMapping(), rules)
    return NativeDecoder(library, MANIFEST, rules, python), python


def _parts(batch):
    return {
        "rejections": batch.rejections,
        "accepted": batch.accepted.tolist(),
        "ids": [list(batch.event_ids), list(batch.customer_ids), list(batch.event_times)],
        "times": batch.event_time_ms.tolist(),
        "numeric": batch.columns.numeric.tobytes(),
        "codes": batch.columns.codes.tobytes(),
        "unseen": sorted(batch.unseen),
        "counts": (batch.columns.n, batch.unknown_fields, batch.key_mismatches, batch.ignored),
    }


def _same(decoders, records):
    """Assert that both read the same; return how many records the library read itself."""
    native, python = decoders
    assert _parts(native.decode(records, NOW_MS)) == _parts(python.decode(records, NOW_MS))
    return len(records) - len(native.read(records, NOW_MS).decoded.rest)


@pytest.mark.parametrize("value", GOOD_ONES)
def test_what_is_plainly_valid_is_read_by_the_library(value):
    """In any order, with spaces, with what may be missing."""
    assert _same(_decoders(Rules()), [record(value)]) == 1


@pytest.mark.parametrize("rules", RULES, ids=["default", "strict", "small"])
@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_the_hostile_corpus_is_read_alike(hostile, rules):
    """Between good neighbours, which the library reads all the same."""
    odd = record(hostile.value, key=hostile.key, headers=hostile.headers, offset=1)
    assert _same(_decoders(rules), [record(raw(), offset=0), odd, record(raw(), offset=2)]) >= 2


def _mutated(draw):
    value = bytearray(draw.choice(GOOD_ONES))
    for _ in range(draw.choice([1, 1, 2, 3])):
        at = draw.randrange(len(value) + 1)
        end = min(len(value), at + draw.choice([1, 1, 2, 5, 20]))
        kind = draw.randrange(4)
        value[at : at if kind == 1 else end] = (b"", draw.choice(TOKENS), draw.choice(TOKENS), value[at:end] * 2)[kind]
    return bytes(value)


def _numbers(draw):
    event = json.loads(draw.choice(GOOD_ONES))
    features = event["features"]
    for name in ("tenure", "monthly_charges", "total_charges"):
        features[name] = draw.choice(
            [
                draw.random() * 100,
                draw.random() * 10 ** draw.randint(-320, 15),
                draw.randrange(10 ** draw.randint(1, 17)),
                None,
                float(draw.randrange(1000)),
                struct.unpack("d", struct.pack("Q", draw.getrandbits(62)))[0],
                -draw.random() * 10 ** draw.randint(-5, 16),
                draw.choice([0, 0.0, -0.0]),
            ]
        )
    event["features"] = dict(draw.sample(list(features.items()), len(features)))
    separators = draw.choice([None, (",", ":"), (" , ", " : ")])
    return json.dumps(event, indent=draw.choice([None, 1]), separators=separators).encode()


@pytest.mark.parametrize("seed", range(6))
def test_mutations_are_read_alike(seed):
    """1,200 events a seed: bytes that are nearly good, and numbers of every size."""
    draw = Random(seed)
    decoders = _decoders(RULES[seed % 3])
    own = 0
    for _ in range(6):
        kinds = [
            lambda: mutate(draw.choice(GOOD_ONES), draw, GOOD_ONES),
            lambda: _mutated(draw),
            lambda: _numbers(draw),
        ]
        values = [draw.choice(kinds)() for _ in range(200)]
        keys = [draw.choice([b"7590-VHVEG", None, b"x"]) for _ in values]
        own += _same(
            decoders, [record(v, offset=at, key=k) for at, (v, k) in enumerate(zip(values, keys, strict=True))]
        )
    assert own > 20, "nothing was read by the library"


def test_large_batches_are_read_alike():
    """More than are held at a time, with an odd one in the middle, at the ends, and nowhere."""
    for odd in ((), (0,), (1234,), (2499,), (0, 999, 1000, 1001, 2499)):
        records = [
            record(raw(extra=1) if at in odd else raw(event_id=f"e-{at}"), offset=at, key=None if at % 3 else b"k")
            for at in range(2500)
        ]
        assert _same(_decoders(Rules()), records) == 2500 - len(odd)
    assert _same(_decoders(Rules()), []) == 0


@pytest.mark.parametrize(
    "changes",
    [{"key": bytearray(b"k")}, {"headers": [(b"x", b"1")]}, {"headers": [("\ud800", b"1")]}, {"headers": [("x", "1")]}],
    ids=["key", "name", "surrogate", "value"],
)
def test_what_is_of_another_type_is_not_read_by_the_library(changes):
    """Kafka's client never makes such a record; the library leaves it alone."""
    native, _ = _decoders(Rules())
    assert native._decoder.decode([record(raw(), **changes)], NOW_MS).rest == [0]


@pytest.mark.parametrize(
    "value",
    [
        raw().replace(b'"tenure": 12', b'"tenure": 12, "tenure": 12'),
        raw().replace(b'"event_id"', b'"event_id": "a", "event_id"'),
        raw().replace(b'"schema_version": 1', b'"schema_version": 1, "schema_version": 1'),
        raw().replace(b'"tenure": 12', b'"tenure": -0.0'),
        raw().replace(b'"tenure": 12', b'"tenure": 1e-310'),
        raw(event_time="2026-11-22T05:00:00+00:00"),
        raw(customer_id="\u00e9"),
        with_features(contract="new"),
        raw() + b"x",
        raw()[:-1],
    ],
)
def test_what_is_not_plain_is_left_to_python(value):
    """The bytes may be valid or not: who reads them is the definition."""
    assert _same(_decoders(Rules()), [record(value)]) == 0


@pytest.mark.parametrize(
    ("size", "headers"), [(0, ()), (1, ()), (0, [("x", b"1"), ("é", None)]), (1, [("x", b"1"), ("é", None)])]
)
def test_the_limit_of_bytes_counts_key_and_headers(size, headers):
    """To the byte."""
    whole = len(raw()) + len(b"7590-VHVEG") + sum(len(n.encode()) + len(v or b"") for n, v in headers)
    decoders = _decoders(Rules(max_event_bytes=whole - size))
    assert _same(decoders, [record(raw(), headers=headers)]) == 1 - size


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"event": EventMapping(event_time="")}, "default envelope"),
        ({"event": EventMapping(time_unit="ms")}, "default envelope"),
        ({"event": EventMapping(format="avro")}, "default envelope"),
        ({"event": EventMapping(only={"schema_version": [1]})}, "default envelope"),
        ({"features": (FEATURES[0].model_copy(update={"parse": "number"}), *FEATURES[1:])}, "tenure"),
        ({"features": (*FEATURES[:6], FEATURES[6].model_copy(update={"from_": "a.b"}))}, "partner"),
    ],
)
def test_other_events_are_read_by_python(changes, why):
    """What the library knows is one envelope, and values that need no conversion."""
    assert why in unfit(MANIFEST.model_copy(update=changes))
    assert unfit(MANIFEST.model_copy(update={"event": EventMapping(tombstones="ignore")})) is None
