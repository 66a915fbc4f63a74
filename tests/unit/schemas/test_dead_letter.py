"""Dead letters: the original bytes, then why; a stub where they would not fit."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from support.events import record

from schemas.dead_letter import dead_letter, encoded_size
from schemas.headers import Stamp
from schemas.rejection_reasons import Reason, Rejection

STAMP = Stamp("customer-events", 3, "1.4.0", "driftline-scorer")
DEFECT = Rejection(Reason.NOT_JSON, "value: byte 0 is not UTF-8")
LIMIT = 900_000
OURS = [
    ("driftline-source-topic", b"customer-events"),
    ("driftline-source-partition", b"3"),
    ("driftline-source-offset", b"1042"),
    ("driftline-source-timestamp", b"1795327199500"),
    ("driftline-source-timestamp-type", b"create"),
    ("driftline-model-version", b"1.4.0"),
    ("driftline-group", b"driftline-scorer"),
    ("driftline-reason", b"not_json"),
    ("driftline-detail", b"value: byte 0 is not UTF-8"),
]


def _letter(value, limit=LIMIT, **options):
    return dead_letter(record(value, **options), DEFECT, STAMP, limit)


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00\x80", b"x" * 70_000])
@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe"])
def test_key_value_and_headers_are_the_originals_byte_for_byte(key, value):
    """Null stays null and empty stays empty; the original headers are in their order, before ours."""
    headers = [("b", b"\xff"), ("a", None), ("b", b""), ("traceparent", b"junk")]
    letter = _letter(value, key=key, headers=headers)
    assert (letter.key, letter.value) == (key, value)
    assert letter.headers == [*headers, *OURS, ("driftline-attempt", b"0")]
    assert letter.spoofed == 0


def test_forged_headers_are_dropped_and_an_attempt_is_kept():
    """No other program writes in our name space, but redriving continues the count."""
    headers = [("driftline-reason", b"none"), ("a", b"1"), ("driftline-attempt", b"2"), ("driftline-size", b"1")]
    letter = _letter(b"x", headers=headers)
    assert letter.headers == [("a", b"1"), *OURS, ("driftline-attempt", b"2")]
    assert letter.spoofed == 2


def test_a_letter_that_just_fits_is_whole():
    """The limit is on the encoded size, which is known before anything is sent."""
    limit = encoded_size(b"7590-VHVEG", b"x" * 20_000, [*OURS, ("driftline-attempt", b"0")])
    assert _letter(b"x" * 20_000, limit).value == b"x" * 20_000
    stub = _letter(b"x" * 20_001, limit)
    assert stub.value == b"x" * 1024
    assert ("driftline-truncated", b"value") in stub.headers


def _stub(**options):
    letter = _letter(**options)
    added = dict(letter.headers[-3:])
    assert list(added) == ["driftline-truncated", "driftline-size", "driftline-sha256"]
    assert letter.headers[-13:-3] == [*OURS, ("driftline-attempt", b"0")]
    assert encoded_size(letter.key, letter.value, letter.headers) <= LIMIT
    return letter, added


def test_a_stub_has_the_first_kib_of_the_value_its_size_and_its_hash():
    """What fits beside it stays whole: key and headers."""
    value = bytes(range(256)) * 4000
    letter, added = _stub(value=value, headers=[("a", b"1")])
    assert letter.value == value[:1024]
    assert letter.key == b"7590-VHVEG"
    assert letter.headers[0] == ("a", b"1")
    assert added == {
        "driftline-truncated": b"value",
        "driftline-size": b"1024000",
        "driftline-sha256": b"062af9ccd890ba3d067ca7150278bcc420069bd82f6e41161029303dfd6d661e",
    }


def test_headers_are_dropped_where_they_are_too_large():
    """A value of at most one KiB is not cut; the hash is the whole value's all the same."""
    letter, added = _stub(value=b"small", headers=[("a", b"x" * 1_000_000)])
    assert letter.value == b"small"
    assert len(letter.headers) == 13
    assert added == {
        "driftline-truncated": b"headers",
        "driftline-size": b"5",
        "driftline-sha256": b"81db8ebbbbc69c6c6ad4a6aa92b76e0c08af547da236b9e2c9dbe1d8285a8130",
    }


def test_the_key_is_cut_last():
    """Consumers group by it: value first, then headers, then the key."""
    letter, added = _stub(value=None, key=b"k" * 1_000_000)
    assert (letter.key, letter.value) == (b"k" * 1024, None)
    assert added["driftline-truncated"] == b"key"
    assert added["driftline-size"] == b"0"
    assert added["driftline-sha256"] == b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    letter, added = _stub(value=b"v" * 500_000, headers=[("a", b"x" * 500_000)])
    assert added["driftline-truncated"] == b"value"
    letter, added = _stub(value=b"v" * 500_000, key=b"k" * 500_000, headers=[("a", b"x" * 500_000)])
    assert added["driftline-truncated"] == b"value,headers"
    assert letter.key == b"k" * 500_000
    letter, added = _stub(value=b"v" * 1025, key=b"k" * 1_000_000, headers=[("a", b"x" * 1_000_000)])
    assert added["driftline-truncated"] == b"key,value,headers"
    assert (letter.key, letter.value) == (b"k" * 1024, b"v" * 1024)
    assert len(letter.headers) == 13


SIZES = st.one_of(st.none(), st.sampled_from([0, 1, 1023, 1024, 1025, 4000, 8192, 9000]), st.integers(0, 10_000))


@settings(max_examples=300, deadline=None)
@given(
    value=SIZES,
    key=SIZES,
    headers=st.lists(st.tuples(st.sampled_from(["a", "é" * 100, "driftline-x"]), SIZES), max_size=4),
    detail=st.integers(0, 512),
    limit=st.integers(8192, 20_000),
)
def test_no_letter_is_ever_larger_than_allowed(value, key, headers, detail, limit):
    """As Kafka's own encoder measures it, at the smallest limit of a setting; and a stub is always marked as one."""
    value, key = (None if n is None else b"x" * n for n in (value, key))
    headers = [(name, None if n is None else b"y" * n) for name, n in headers]
    stamp = Stamp("t" * 249, 2**31 - 1, "1" * 64, "g" * 200)
    r = record(value, key=key, headers=headers, offset=2**63 - 1)
    letter = dead_letter(r, Rejection(Reason.EVENT_TIME_IN_FUTURE, "d" * detail), stamp, limit)
    batch = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=1,
        producer_id=1,
        producer_epoch=1,
        base_sequence=1,
        batch_size=limit,
    )
    size = batch.append(0, timestamp=2**62, key=letter.key, value=letter.value, headers=letter.headers)
    assert size is not None
    assert len(batch.build()) <= encoded_size(letter.key, letter.value, letter.headers) <= limit
    kept = [(name, content) for name, content in headers if not name.startswith("driftline-")]
    whole = (letter.key, letter.value, letter.headers[: len(kept)]) == (key, value, kept)
    assert whole != any(name == "driftline-truncated" for name, _ in letter.headers)
