"""Records of fetched batches are aiokafka's, field by field; what it refuses is refused, with the same error."""

import struct
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st
from support.events import record

from kafka_runtime import fetched
from schemas.validation import record_size

SOURCE = TopicPartition("predictions", 3)
FIELDS = ("topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers")
HEADERS = [("driftline-source-offset", b"41"), ("é", None), ("", b""), ("content-type", b"application/json" * 9)]


@pytest.fixture(autouse=True, scope="module", params=["python", "native"])
def _ours(request):
    """Both readers: in arrays, and the library where it is built."""
    library = None
    if request.param == "native":
        library = pytest.importorskip("driftline_native", reason="driftline-native is not built: make native")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fetched, "_topics", {SOURCE.topic})
        patched.setattr(fetched, "_library", library)
        yield


def _batch(rows, base=0, *, codec=0, appended=False):
    """A batch as a broker returns it; rows: (timestamp, key, value, headers)."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 10_000_000)
    for offset, row in enumerate(rows):
        builder.append(offset, *row)
    raw = bytearray(builder.build())
    raw[:8] = struct.pack(">q", base)
    if appended:
        raw[22] |= 0x08
    return bytes(raw)


def _rows(n, headers=HEADERS):
    return [
        (1_795_327_200_000 + 7 * i - 90 * (i % 3), None if i % 5 == 4 else b"k%d" % i, b"v" * (i % 300), headers)
        for i in range(n)
    ]


def _outcome(kind, records, start=0):
    """What is read one record after the other, and the error behind it."""
    reading = iter(kind(SOURCE, records, [], start, None, None, False, READ_COMMITTED))
    found = []
    while True:
        try:
            one = next(reading)
        except StopIteration:
            return found, None
        except (KafkaError, UnicodeDecodeError, ValueError, OverflowError) as error:
            return found, repr(error)
        found.append({name: getattr(one, name) for name in FIELDS})


def _both(raw, start=0):
    ours = _outcome(fetched._PartitionRecords, fetched._KeptRecords(raw), start)
    assert ours == _outcome(PartitionRecords, MemoryRecords(raw), start)
    return ours


@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize("codec", [0, 1])
@pytest.mark.parametrize("headers", [[], HEADERS, [("a", b"")] * 70], ids=["none", "some", "many"])
@pytest.mark.parametrize("n", [1, 15, 16, 300])
def test_records_are_those_of_aiokafka(n, headers, codec, appended):
    """Few and many, compressed or not, of the producer's clock or of the broker's."""
    raw = _batch(_rows(n, headers), 10**12, codec=codec, appended=appended)
    found, error = _both(raw + _batch(_rows(20, headers), 10**12 + n), 10**12)
    assert (len(found), error) == (n + 20, None)
    assert found[0]["headers"] == tuple(headers)


def test_batches_of_one_shape_are_read_in_arrays():
    """Or every header of every record would be read. Numbers that grow by a digit do not change that."""
    rows = [(5, b"k", b"v" * 200, [("offset", b"%d" % i), ("group", b"g")]) for i in range(5, 150)]
    rows += _rows(5, [])
    (*records, _, _, _, _, _) = fetched.records_of(SOURCE, _batch(rows))
    assert [one.headers[0][1] for one in records] == [b"%d" % i for i in range(5, 150)]
    assert {one.size - len(one.headers[0][1]) for one in records} == {len(b"k" + b"v" * 200 + b"offsetgroupg")}
    assert all(one.size == record_size(record(one.value, key=one.key, headers=one.headers)) for one in records)


@pytest.mark.parametrize(
    "rows",
    [
        [*_rows(30, [("a", b"1")]), *_rows(30, [("b", b"1")])],
        [*_rows(30, [("ab", b"")]), *_rows(30, [("a", b"1")])],
        _rows(30, []),
    ],
)
def test_batches_of_several_shapes_are_left_to_aiokafka(rows):
    """Each record has its own headers."""
    with pytest.raises(fetched.NotPlainError):
        fetched.records_of(SOURCE, _batch(rows))
    assert [one["headers"] for one in _both(_batch(rows))[0]] == [tuple(row[3]) for row in rows]


@settings(max_examples=400, deadline=None)
@given(
    n=st.sampled_from([16, 17, 40]),
    headers=st.lists(st.tuples(st.text(max_size=12), st.one_of(st.none(), st.binary(max_size=20))), max_size=4),
    damage=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
    cut=st.sampled_from([0, 0, 0, 1, 5]),
    start=st.sampled_from([0, 0, 3, 100]),
)
def test_a_damaged_batch_is_read_or_refused_as_aiokafka_does(n, headers, damage, cut, start):
    """Bytes behind the batch's own header replaced, and its end cut off."""
    raw = bytearray(_batch(_rows(n, headers or HEADERS)))
    for at, byte in damage:
        raw[61 + at % (len(raw) - 61)] = byte
    if cut:
        del raw[-cut:]
        raw[8:12] = struct.pack(">i", len(raw) - 12)
    _both(bytes(raw) + _batch(_rows(20), n), start)


@pytest.mark.parametrize("offset", [5, 19], ids=["smaller", "the same"])
@pytest.mark.parametrize("headers", [[], HEADERS], ids=["none", "some"])
def test_an_offset_that_does_not_grow_is_passed_over(headers, offset):
    """As aiokafka does: the record is taken for one of before the place that was asked for."""
    rows = [(0, b"k", b"v", headers)] * 40
    raw = bytearray(_batch(rows))
    # length, attributes, distance of the timestamp, distance of the offset
    at = 61
    for _ in range(20):
        length, at = fetched._varint(bytes(raw), at)
        at += length
    _, at = fetched._varint(bytes(raw), at)
    assert raw[at + 2] == 40  # 20, zigzag
    raw[at + 2] = 2 * offset
    found, error = _both(bytes(raw))
    assert ([one["offset"] for one in found], error) == ([*range(20), *range(21, 40)], None)


def _taken(result, sizes):
    return [[one.offset for one in result.getall(size)] for size in sizes]


def test_a_fetch_is_taken_in_parts_as_from_aiokafka():
    """The position follows the records that were taken, whatever part of a batch they are."""
    raw = b"".join(_batch(_rows(20), 20 * i) for i in range(4))
    sizes = [1, 5, 20, 14, 30, None]

    def result(kind, records, of):
        state = SimpleNamespace(paused=False, position=0)
        state.consumed_to = lambda to: setattr(state, "position", to)
        assignment = SimpleNamespace(active=True, state_value=lambda _: state)
        part = records(SOURCE, of(raw), [], 0, None, None, True, READ_COMMITTED)
        return kind(SOURCE, assignment=assignment, partition_records=part, backoff=0), state

    (ours, ours_at), (theirs, theirs_at) = (
        result(fetched._FetchResult, fetched._PartitionRecords, fetched._KeptRecords),
        result(FetchResult, PartitionRecords, MemoryRecords),
    )
    for size in sizes:
        assert _taken(ours, [size]) == _taken(theirs, [size])
        assert ours_at.position == theirs_at.position
        assert ours.has_more() == theirs.has_more()
    assert ours_at.position == 80


def test_a_record_before_the_place_asked_for_is_not_given():
    """A broker returns whole batches."""
    found, _ = _both(_batch(_rows(40), 100), 117)
    assert [one["offset"] for one in found] == list(range(117, 140))


def test_a_batch_that_was_changed_on_its_way_is_refused():
    """Its checksum is wrong; the one before it has been read."""
    damaged = bytearray(_batch(_rows(20), 20))
    damaged[90] ^= 1
    records = fetched._PartitionRecords(
        SOURCE, fetched._KeptRecords(_batch(_rows(20)) + bytes(damaged)), [], 0, None, None, True, READ_COMMITTED
    )
    assert len(records.take(20)[0]) == 20
    with pytest.raises(Exception, match="Invalid CRC"):
        records.take(1)


def test_other_topics_are_read_by_aiokafka():
    """`install` names the topics."""
    other = TopicPartition("other", 0)
    (found,) = fetched._PartitionRecords(
        other, fetched._KeptRecords(_batch(_rows(1))), [], 0, None, None, True, READ_COMMITTED
    )
    assert type(found) is not fetched.Record
