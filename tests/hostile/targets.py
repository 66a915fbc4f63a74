"""What reads bytes that strangers wrote, each as a function of bytes that raises only where a rejection is.

A target accepts any bytes and returns one word for its decision. A corpus is measured by the number of ways it finds.
It raises if the code under test raises anything but its own refusal, or if two ways to the same verdict differ. How
long it took is looked at by `run`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import signal
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import numpy as np
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from support import avro_events, bundles, protobuf_events
from support.events import FEATURES, NOW_MS, Decoders, raw, record

from drift_worker.counts import wire_format
from drift_worker.counts.bins import Cells
from drift_worker.counts.windows import Side, Windows, decode_state
from drift_worker.counts.wire_format import Delta, Hour, Identity, Merged, Packed, Progress
from driftline.training.spec import SpecError, parse_spec
from kafka_runtime import fetched
from kafka_runtime.native.library import NAME
from kafka_runtime.schema_registry.client import RegisteredSchema
from kafka_runtime.sinks import record_batches
from schemas import headers as h
from schemas.alert import decode_alert
from schemas.bundle.inputs import EventMapping
from schemas.bundle.manifest import BundleError, manifest_bytes, parse_manifest
from schemas.dead_letter import dead_letter, encoded_size
from schemas.event import DecodedBatch, EventDecoder
from schemas.measurement import decode_measurement
from schemas.native_events import NativeDecoder
from schemas.prediction import decode_prediction
from schemas.reference import Reference
from schemas.rejection_reasons import Reason, Rejection
from schemas.validation import Rules
from scorer.model import Model
from scorer.native.predictions import NativePredictions
from scorer.pipeline import Pipeline, encoder_for, predictions_of
from scorer.predict import NotAnsweredError, Predictor

# Of processor time, so that a busy machine is no finding.
SLOW_S = 1.0
# Whether the optional library is there (make native).
NATIVE = importlib.util.find_spec(NAME) is not None
MAX_DEAD_LETTER_BYTES = 4000

# The first byte of an event's bytes selects the text around the value; the same bytes are always the same record.
KEYS = (b"7590-VHVEG", None, b"", b"\xff\xfe", b"\x00", b"k" * 129, b"\xed\xa0\x80", "é".encode())
HEADERS = (
    (),
    (("driftline-source-offset", b"7"), ("driftline-attempt", b"999999999999"), ("", None)),
    (("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("x", b"\xff" * 300)),
    (("driftline-reason", b"model_error"), ("driftline-attempt", "١".encode()), ("\x00", b"\x00")),
)
TIMESTAMPS = (NOW_MS, -1, 0, NOW_MS + 300_001, 1 << 53, -(1 << 63), (1 << 63) - 1, NOW_MS)


class FoundError(AssertionError):
    """A rejection: the code under test did what it must not."""


def as_record(data: bytes, offset: int = 1042):
    """Return the record that `data` encodes."""
    choice = data[0] if data else 0
    value = data[1:] or (None if choice & 1 else b"")
    return record(
        value,
        key=KEYS[choice >> 5],
        headers=HEADERS[choice >> 3 & 3],
        timestamp=TIMESTAMPS[choice & 7],
        offset=offset,
    )


# The same features, as other teams write them.
WIDE = tuple(
    feature.model_copy(
        update={
            "numeric": {"parse": "number"},
            "categorical": {"integers": True},
            "boolean": {"true": (True, 1), "false": (False, "N")},
        }[feature.kind]
    )
    for feature in FEATURES
)


@functools.cache
def _decoders() -> tuple[Decoders, ...]:
    return (
        Decoders(),
        Decoders(reject_unknown_fields=True, detail_values=True),
        Decoders(EventMapping(event_id="meta.id", customer_id="", event_time="", features="")),
        Decoders(EventMapping(event_id="", customer_id="c.id", event_time="c.at", features="c.features")),
        Decoders(EventMapping(only={"schema_version": [1], "$header.x": ["y"]}, tombstones="ignore"), WIDE),
        Decoders(EventMapping(time_unit="us", event_time="features.tenure"), WIDE[1:]),
        Decoders(EventMapping(event_id="$key.id", customer_id="$header.x", event_time="$timestamp", features="a|json")),
        Decoders(EventMapping(preset="debezium", customer_id="customer_id", features="features", only={})),
        Decoders(EventMapping(preset="cloudevents", features="features")),
    )


def event(data: bytes) -> str:
    """The fast decoder agrees with the definition, in every mapping, and good neighbours are untouched."""
    ours, words = as_record(data), []
    for decoders in _decoders():
        alone = decoders.decode([ours])  # held against the validator
        words.append("accepted" if alone.rejections[0] is None else alone.rejections[0].reason.value)
        batch = decoders.decode([record(raw(), offset=1), ours, record(raw(), offset=2)])
        expected = decoders.decode([record(raw(), offset=1)]).rejections[0]
        if [batch.rejections[0], batch.rejections[2]] != [expected, expected] or batch.rejections[
            1
        ] != alone.rejections[0]:
            raise FoundError(f"neighbours change the outcome: {batch.rejections}")
    return words[0] if words[0] != "accepted" else "/".join(words)


REGISTERED_ID = 7
# Copies of a record in a batch: enough to be read field by field, which must give what one alone gives.
COPIES = 5


def _formats() -> dict[str, tuple[str, str, bytes]]:
    """Return per format the registry's name of it, a schema, and a record of that."""
    avro_body = avro_events.body(avro_events.SCHEMA, avro_events.EVENT)
    return {
        "avro": ("AVRO", json.dumps(avro_events.SCHEMA), avro_body),
        "json-schema": ("JSON", "{}", raw()),
        "protobuf": ("PROTOBUF", protobuf_events.SCHEMA, protobuf_events.body(protobuf_events.EVENT)),
    }


@functools.lru_cache(maxsize=64)
def _behind_schema(form: str, choice: int, schema: str) -> EventDecoder:
    mapping = {
        0: EventMapping(format=form),
        1: EventMapping(format=form, event_id="features.contract", event_time="", features=""),
        2: EventMapping(format=form, time_unit="us", only={"customer_id": [17, "7590-VHVEG"]}),
        3: EventMapping(format=form, features="features.0|json", customer_id="$key"),
    }[choice & 3]
    schemas = avro_events.Known({REGISTERED_ID: RegisteredSchema(_formats()[form][0], schema)})
    rules = Rules(reject_unknown_fields=bool(choice & 8))
    return EventDecoder(WIDE if choice & 4 else FEATURES, mapping, rules, schemas)


def _behind_schema_id(form: str, data: bytes) -> str:
    """A record, and its schema: read alone and in a batch alike, whatever either is.

    The first byte selects the spec, two are the length of the schema that follows (none: a good one), and the rest is
    the record.
    """
    size = int.from_bytes(data[1:3], "big")
    text = data[3 : 3 + size].decode("utf-8", "replace") or _formats()[form][1]
    value = avro_events.framed(data[3 + size :], REGISTERED_ID)
    decoder = _behind_schema(form, data[0] if data else 0, text)
    alone = decoder.decode([record(value)], NOW_MS)
    batch = decoder.decode([record(value)] * COPIES, NOW_MS)
    if batch.rejections != alone.rejections * COPIES or len(batch.ignored) != len(alone.ignored) * COPIES:
        raise FoundError(f"a batch has another outcome: {alone.rejections[0]}, {batch.rejections}")
    for of_batch, of_one in zip(_values(batch), _values(alone), strict=True):
        if repr(of_batch) != repr(of_one * COPIES):
            raise FoundError(f"a batch has other values: {of_one}, {of_batch}")
    if batch.unknown_fields != alone.unknown_fields * COPIES:
        raise FoundError("a batch has other unknown fields")
    rejection = alone.rejections[0]
    return rejection.reason.value if rejection else "ignored" if alone.ignored else "accepted"


def _values(batch: DecodedBatch) -> list[list[object]]:
    columns = batch.columns
    found = (
        batch.event_ids,
        batch.customer_ids,
        batch.event_times,
        batch.event_time_ms,
        columns.numeric,
        columns.codes,
    )
    return [part.tolist() if isinstance(part, np.ndarray) else list(part) for part in found]


def avro(data: bytes) -> str:
    """A record of Avro behind a schema id."""
    return _behind_schema_id("avro", data)


def json_schema(data: bytes) -> str:
    """A record of JSON behind a schema id."""
    return _behind_schema_id("json-schema", data)


def protobuf(data: bytes) -> str:
    """A record of Protobuf behind a schema id."""
    return _behind_schema_id("protobuf", data)


class _Constant:
    """A model that is sure of nothing: what it does is not what is looked at here."""

    def __init__(self, manifest) -> None:
        self.manifest = manifest

    def score_each(self, columns):
        """One half for every row, and no row without a score."""
        return np.full(columns.n, 0.5), {}


@functools.cache
def _served() -> Model:
    manifest = parse_manifest(_manifest())
    return _Constant(manifest)  # type: ignore[return-value] # all that a pipeline asks of a model


@functools.cache
def _manifest() -> bytes:
    return manifest_bytes(bundles.manifest(bundles.fitted()))


@functools.cache
def _pipeline() -> Pipeline:
    return Pipeline(_served(), Rules(), "driftline-scorer", MAX_DEAD_LETTER_BYTES)


def pipeline(data: bytes) -> str:
    """One outcome: a prediction whose value can be read back, or a dead letter that fits and keeps the bytes."""
    ours, ticks = as_record(data), count()
    answer = _pipeline().answer([ours], ours.topic, ours.partition, lambda: NOW_MS, lambda: float(next(ticks)))
    if len(answer.predictions) + len(answer.dead_letters) != 1:
        raise FoundError("not one outcome")
    ((key, value, headers),) = answer.predictions or answer.dead_letters
    found = dict(headers)
    if found[h.SOURCE_OFFSET] != b"1042" or sum(name == h.SOURCE_OFFSET for name, _ in headers) != 1:
        raise FoundError("the source is not said once")
    if answer.predictions:
        decode_prediction(value)
        return "predicted"
    if encoded_size(key, value, headers) > MAX_DEAD_LETTER_BYTES and len(ours.value or b"") < 1024:
        raise FoundError("a dead letter that its topic does not take")
    if h.TRUNCATED not in found and (key, value) != (ours.key, ours.value):
        raise FoundError("a dead letter without the original bytes")
    return found[h.REASON].decode()


def native(data: bytes) -> str:
    """Both lanes read the same events, and encode the same bytes in batches of any size, whatever the records hold.

    The first byte selects key, headers and timestamp, two are the limit of a batch, eight the offset, the rest is texts
    and scores.
    """
    import driftline_native

    _events_in_both_lanes(data)
    limit, offset = (
        62 + int.from_bytes(data[1:3], "big"),
        int.from_bytes(data[3:11].rjust(8, b"\0"), "big", signed=True),
    )
    texts = [
        part.decode("utf-8", "surrogateescape" if data[0:1] > b"\xf0" else "replace") for part in _parts(data[11:], 9)
    ]
    records = [as_record(data, offset), *(as_record(data[at:], at) for at in (1, 2))]
    scores = np.frombuffer(data[-24:].rjust(24, b"\x3f"))
    rows = np.arange(3)
    batch = DecodedBatch([None] * 3, rows, texts[:3], texts[3:6], texts[6:], rows, None, 0, 0)  # type: ignore[arg-type] # no columns
    asked = (records, batch, scores, h.Stamp("customer-events", 3, "1.4.0", "driftline-scorer"), NOW_MS)
    model = _served()
    encoded = NativePredictions(driftline_native, model, limit).encode(*asked)
    if encoded is None:
        return "handed back"
    made, counted = predictions_of(encoder_for(model), *asked)
    sealed = []
    for one in encoded[0].batches(NOW_MS, transactional=True):
        one._set_producer_state(1, 2, 3)
        sealed.append(one._build())
    if sealed != record_batches(made, NOW_MS, limit, (1, 2, 3)) or encoded[1] != counted:
        raise FoundError("the lanes differ")
    return f"{len(sealed)} batches"


@functools.cache
def _event_lanes() -> tuple[NativeDecoder, EventDecoder]:
    import driftline_native

    python = EventDecoder(FEATURES, EventMapping(), Rules())
    return NativeDecoder(driftline_native, _served().manifest, Rules(), python), python


def _events_in_both_lanes(data: bytes) -> None:
    """The same bytes as an event, from the fourth on, between good neighbours."""
    ours = as_record(data[:1] + data[3:])
    batches = [lane.decode([record(raw(), offset=1), ours, record(raw(), offset=2)], NOW_MS) for lane in _event_lanes()]
    native, python = (
        (repr(_values(batch)), batch.rejections, batch.accepted.tolist(), batch.unknown_fields, batch.key_mismatches)
        for batch in batches
    )
    if native != python:
        raise FoundError(f"the lanes read differently: {native}, {python}")


def _parts(data: bytes, count: int) -> list[bytes]:
    size = max(1, len(data) // count)
    return [data[at * size : (at + 1) * size] for at in range(count)]


def letters(data: bytes) -> str:
    """A dead letter of any parts and limit: each of our headers is there once, and nothing is larger than allowed."""
    size = len(data)
    cuts = sorted(data[i] * size // 256 if i < size else 0 for i in range(2))
    names = [name.decode("utf-8", "replace") for name in data[cuts[0] : cuts[1]].split(b"\x00")]
    headers = [(name, name.encode()[::-1] or None) for name in names]
    ours = record(data[cuts[1] :], key=data[: cuts[0]], headers=headers)
    stamp = h.Stamp("customer-events", 3, "1.4.0", "driftline-scorer")
    letter = dead_letter(ours, Rejection(Reason.NOT_JSON, "x"), stamp, 2000 + size % 3000)
    if len([name for name, _ in letter.headers if name == h.ATTEMPT]) != 1 or h.attempt(letter.headers) > 999_999_999:
        raise FoundError("not one attempt")
    h.traceparent(headers)
    return dict(letter.headers).get(h.TRUNCATED, b"whole").decode()


@functools.cache
def _predictor() -> Predictor:
    return Predictor(_served(), Rules())


def predict(data: bytes) -> str:
    """POST /predict: an answer that is JSON, or the problems as JSON."""
    try:
        answer = _predictor().answer(data, NOW_MS)
    except NotAnsweredError as error:
        msgspec.json.encode(error.detail).decode()
        return str(error.detail[0]["type"])
    msgspec.json.encode(answer).decode()
    return "answered"


def _refuses(decode: Callable[[bytes], object], encode: Callable[[object], bytes], data: bytes) -> str:
    """`decode` gives a value that survives the way out and back, or ValueError."""
    try:
        found = decode(data)
    except ValueError as error:
        # the library's own errors are ValueErrors, too: they must have been made ours
        if type(error) is not ValueError:
            raise FoundError(f"an error that is not ours: {error!r}") from error
        return "refused"
    if repr(decode(encode(found))) != repr(found):
        raise FoundError("another value after encoding")
    return "read"


def prediction(data: bytes) -> str:
    """A prediction, or ValueError."""
    return _refuses(decode_prediction, msgspec.json.encode, data)


def alert(data: bytes) -> str:
    """An alert, or ValueError."""
    return _refuses(decode_alert, lambda found: found.encode(), data)  # type: ignore[attr-defined]


def measurement(data: bytes) -> str:
    """A measurement, or ValueError."""
    return _refuses(decode_measurement, lambda found: found.encode(), data)  # type: ignore[attr-defined]


REFERENCE = Reference(
    np.arange(10.0)[:, None], np.zeros((10, 0), dtype=np.int32), np.linspace(0, 1, 10), np.zeros(0, dtype=np.int64)
)
CELLS = Cells((FEATURES[0].model_copy(update={"name": "x"}),), (), REFERENCE)
IDENTITY = Identity("ab" * 32, "01234567")
TOPICS = {Side.FEATURES: "events", Side.SCORE: "predictions"}


def pane(data: bytes) -> str:
    """A record of drift-panes: refused, or taken in by windows that then can still be closed and remembered."""
    try:
        found = wire_format.decode(data)
    except ValueError:
        return "refused"
    windows = Windows(CELLS, IDENTITY, {"5s": 5000, "15s": 15_000}, TOPICS, lateness_ms=1000, straggler_s=60.0)
    try:
        if isinstance(found, Delta):
            windows.add_delta(found, 7, replayed=False)
        elif isinstance(found, Progress):
            windows.update_progress(found, replayed=False)
        elif isinstance(found, Merged):
            windows.add_merged(found)
    except (ValueError, IndexError):  # what the evaluator takes for an unreadable record
        return f"{type(found).__name__} refused"
    for at_s in (0.0, 61.0, 130.0):
        closed = [closing for together in windows.due(at_s) for closing in together]
    list(windows.late_units())
    windows.needed_from(8)
    windows.needed_since(NOW_MS)
    windows.restore(decode_state(windows.state()), same_reference=True)
    return f"{type(found).__name__} {len(closed)}"


def manifest(data: bytes) -> str:
    """A manifest that is written as it was read, or BundleError."""
    try:
        found = parse_manifest(data)
    except BundleError:
        return "refused"
    if parse_manifest(manifest_bytes(found)) != found:
        raise FoundError("another manifest after writing")
    return "read"


def spec(data: bytes) -> str:
    """A training spec, or SpecError."""
    try:
        parse_spec(data.decode("utf-8", "replace"))
    except SpecError:
        return "refused"
    return "read"


def reference(data: bytes) -> str:
    """A drift reference, or ValueError; it never unpickles."""
    try:
        Reference.from_bytes(data)
    except ValueError:
        return "refused"
    return "read"


SOURCE = TopicPartition("customer-events", 3)
RECORD = ("topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers")


def _read(kind: Any, records: Any) -> tuple[list[tuple[object, ...]], str]:
    """The records of a fetched partition one after the other, and the error behind the last."""
    found: list[tuple[object, ...]] = []
    try:
        found.extend(
            tuple(getattr(one, name) for name in RECORD)
            for one in kind(SOURCE, records, [], 0, None, None, True, READ_COMMITTED)
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        return found, repr(error)
    return found, ""


def batch(data: bytes) -> str:
    """A fetched batch whose length and checksum are right: read as aiokafka reads it, by Python and by the library."""
    raw = bytearray(data.ljust(61, b"\0"))
    raw[8:12] = (len(raw) - 12).to_bytes(4, "big")
    raw[16] = 2
    raw[22] &= 0xF8  # not compressed
    raw[17:21] = calc_crc32c(bytes(raw[21:])).to_bytes(4, "big")
    wanted = _read(PartitionRecords, MemoryRecords(bytes(raw)))
    fetched._topics.add(SOURCE.topic)
    libraries = (None, importlib.import_module(NAME)) if NATIVE else (None,)
    for library in libraries:
        fetched._library = library
        found = _read(fetched._PartitionRecords, fetched._KeptRecords(bytes(raw)))
        # aiokafka may read behind the end of a damaged batch: its error's text, and even its kind, are chance
        if (found[0], bool(found[1])) != (wanted[0], bool(wanted[1])):
            raise FoundError(f"{'Python' if library is None else NAME} reads another batch than aiokafka")
    fetched._library = None
    return f"{min(len(wanted[0]), 2)} {wanted[1][:20]}"


TARGETS: dict[str, Callable[[bytes], str]] = {
    target.__name__: target
    for target in (
        *(event, avro, json_schema, protobuf, pipeline, letters, predict, prediction),
        *(alert, measurement, pane, manifest, spec, reference, batch),
        *((native,) if NATIVE else ()),
    )
}


def _out_of_time(*_: object) -> None:
    raise TimeoutError(f"still not done after {3 * SLOW_S:.0f} s of processor time")


def run(name: str, data: bytes) -> str:
    """Return the target's word; FoundError for a crash, a difference, or more than a second."""
    started = time.process_time()
    before = signal.signal(signal.SIGVTALRM, _out_of_time)
    signal.setitimer(signal.ITIMER_VIRTUAL, 3 * SLOW_S)
    try:
        word = TARGETS[name](data)
    except Exception as error:  # any exception is a finding
        raise FoundError(f"{name}: {error!r} for {data[:200]!r}") from error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    took_s = time.process_time() - started
    if took_s > SLOW_S:
        raise FoundError(f"{name}: took {took_s:.1f} s for {data[:200]!r}")
    return word


def _registered(form: str) -> list[bytes]:
    """Records of a format in every spec: with the schema in front, which then is changed, too, and without it."""
    _, schema, value = _formats()[form]
    texts = {
        "avro": ['["null", "string"]', '{"type": "map", "values": "int"}'],
        "json-schema": ['{"properties": {"features": {"$ref": "#/$defs/f"}}, "$defs": {"f": {"type": "object"}}}'],
        "protobuf": [*_PROTO_TEXTS, _in_base64()],
    }[form]
    values = [value, *([protobuf_events.body(protobuf_events.WIDE_EVENT, kind=_wide())] if form == "protobuf" else [])]
    found = []
    for text in ("", schema, *texts):
        front = len(text.encode()).to_bytes(2, "big") + text.encode()
        found += [bytes([choice]) + front + one for choice in (0, 1, 6, 11) for one in values]
    return found


def _wide():
    return protobuf_events.message_class(protobuf_events.WIDE)


_PROTO_TEXTS = (
    protobuf_events.WIDE,
    'syntax = "proto2"; message M { required string event_id = 1; optional group F = 4 { optional int32 a = 1; } }',
    'syntax = "proto3"; message M { map<int32, M> a = 1 [(o) = {b: 1}]; oneof c { bytes d = 2; } enum E { F = 0; } }',
)


def _in_base64() -> str:
    import base64

    return base64.b64encode(protobuf_events.message_class().DESCRIPTOR.file.serialized_pb).decode()


def _batch(rows: int, with_headers: bool) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 1, 77, 5, 9, 1 << 20)
    headers = [("driftline-source-offset", b"41"), ("é", None), ("", b"")] if with_headers else []
    for at in range(rows):
        builder.append(at, NOW_MS + at % 3, None if at % 4 == 3 else b"k%d" % at, b"v" * (at * 7), headers)
    return bytes(builder.build())


def seeds() -> dict[str, list[bytes]]:
    """Valid documents of every target, from which a fuzzer starts."""
    import io
    from pathlib import Path

    from support.events import GOOD, GOOD_FEATURES

    bare = {**GOOD_FEATURES, "meta": {"id": "e"}}
    nested = {"c": {"id": "c", "at": "2026-11-22T05:00:00Z", "features": GOOD_FEATURES}}
    events = [json.dumps(document).encode() for document in (GOOD, bare, nested)]
    packed = Packed(np.array([3], dtype="<u4").tobytes(), 0, b"\x05")
    panes = [
        Delta(1, IDENTITY.reference, IDENTITY.key_id, "events", 0, 0, 5, 5000, 0, 5, packed),
        Delta(1, IDENTITY.reference, IDENTITY.key_id, "predictions", 1, 0, 5, 5000, -1, 5, packed),
        Progress(1, "events", 0, 0, 5, 5, 4, {"not_json": 1}, 0, 60_000, 60_000, False, 2, 5, {0: 5}),
        Progress(1, "predictions", 1, 0, 5, 5, 5, {}, 0, None, None, True, 2, 0, {1: 7}),
        Merged(1, IDENTITY.reference, IDENTITY.key_id, 5000, 0, packed),
        Hour(1, IDENTITY.reference, IDENTITY.key_id, 3_600_000, 0, packed),
    ]
    scored = (
        b'{"schema_version":1,"prediction_id":"customer-events-3-1042","event_id":"01J9","customer_id":"7590-VHVEG",'
        b'"event_time":"2026-11-22T05:59:59.123Z","scored_at":"2026-11-22T06:00:00.000Z","probability":0.25,'
        b'"label":false,"threshold":0.5,"model":{"name":"churn-small","version":"1.4.0"}}'
    )
    announced = (
        b'{"version":1,"fingerprint":"f57a660ed19dbbf7","status":"firing","labels":{"alertname":"FeatureDrift"},'
        b'"annotations":{"summary":"s"},"startsAt":"2026-11-22T06:00:00.000Z","endsAt":null,"sequence":1,'
        b'"evidence":{"psi":0.3,"windows":[1,2]}}'
    )
    measured = (
        b'{"version":1,"model":"m","model_version":"1.0.0","reference_sha256":"ab","window":{"length":"15m",'
        b'"start":"2026-11-22T06:00:00.000Z","end":"2026-11-22T06:15:00.000Z"},"complete":true,'
        b'"sample":{"events":500,"late":0,"refused":1},"level":{"q":0.01,"tests":20,"single":0.0005},'
        b'"features":{"tenure":{"kind":"numeric","events":500,"psi":0.1,"tests":{"psi":-3.5},"bins":{"edges":[1.5],'
        b'"reference":[0.5,0.5],"window":[0.4,0.6]}}},"episodes":{"ab":{"status":"firing","severity":"warning",'
        b'"since":"x"}},"offsets":{"events":{"0":[0,500]}}}'
    )
    out = io.BytesIO()
    np.savez(
        out, numeric=REFERENCE.numeric, codes=REFERENCE.codes, score=REFERENCE.score, singletons=REFERENCE.singletons
    )
    return {
        "event": [bytes([choice]) + document for document in events for choice in (0, 0b00101000, 0b11011011)],
        **{form.replace("-", "_"): _registered(form) for form in _formats()},
        "pipeline": [b"\x00" + events[0], b"\x2a" + events[0]],
        "letters": [b"\x20\x40" + events[0], b"\x10\xf0" + b"driftline-attempt\x00traceparent\x00a" * 9 + b"v" * 2000],
        "predict": [*events, b"[" + events[0] + b"," + json.dumps(GOOD_FEATURES).encode() + b"]"],
        "prediction": [scored],
        "alert": [announced],
        "measurement": [measured],
        "pane": [wire_format.encode(found) for found in panes],
        "manifest": [_manifest()],
        "spec": [path.read_bytes() for path in sorted(Path("examples").glob("*.toml"))],
        "reference": [out.getvalue(), REFERENCE.to_bytes()],
        "batch": [_batch(rows, with_headers) for rows in (1, 20) for with_headers in (False, True)],
        **(
            {"native": [bytes([choice, 2, 200]) + document for document in events for choice in (0, 91, 255)]}
            if NATIVE
            else {}
        ),
    }
