"""Events and records for tests without a broker: a small bundle's features, one valid event, and its record."""

import json

from aiokafka import ConsumerRecord

from schemas.bundle.inputs import EventMapping, Feature
from schemas.event import EventDecoder
from schemas.validation import EventValidator, Rules

NOW_MS = 1_795_327_200_000  # 2026-11-22T06:00:00Z
FEATURES = (
    Feature(name="tenure", kind="numeric", min=0, max=120),
    Feature(name="monthly_charges", kind="numeric"),
    Feature(name="total_charges", kind="numeric", nullable=True),
    Feature(name="contract", kind="categorical", categories=("Month-to-month", "One year")),
    Feature(name="payment", kind="categorical", categories=("Mail",), nullable=True),
    Feature(name="senior", kind="boolean"),
    Feature(name="partner", kind="boolean", nullable=True),
)
GOOD_FEATURES = {
    "tenure": 12,
    "monthly_charges": 70.35,
    "total_charges": 844.2,
    "contract": "One year",
    "payment": "Mail",
    "senior": False,
    "partner": True,
}
GOOD = {
    "schema_version": 1,
    "event_id": "01J9",
    "customer_id": "7590-VHVEG",
    "event_time": "2026-11-22T05:59:59.123Z",
    "features": GOOD_FEATURES,
}


def record(
    value, *, key=b"7590-VHVEG", headers=(), offset=1042, partition=3, timestamp=1_795_327_199_500, timestamp_type=0
):
    """Return a record as aiokafka returns it."""
    return ConsumerRecord(
        topic="customer-events",
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        timestamp_type=timestamp_type,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=tuple(headers),
    )


def raw(**changes):
    """Return the valid event with some of its members changed; None stays null."""
    return json.dumps({**GOOD, **changes}).encode()


def without(*names):
    """Return the valid event without some of its members."""
    return json.dumps({name: value for name, value in GOOD.items() if name not in names}).encode()


def with_features(**changes):
    """Return the valid event with some of its features changed."""
    return raw(features={**GOOD_FEATURES, **changes})


def without_feature(name):
    """Return the valid event without one of its features."""
    return raw(features={other: value for other, value in GOOD_FEATURES.items() if other != name})


class Decoders:
    """The decoder and the validator of one mapping: both read every record, and their results must be equal."""

    def __init__(self, mapping=None, features=FEATURES, **rules):
        self.features = features
        self.mapping = mapping or EventMapping()
        self.decoder = EventDecoder(features, self.mapping, Rules(**rules))
        self.validator = EventValidator(features, self.mapping, Rules(**rules))

    def decode(self, records, now_ms=NOW_MS):
        """Return the decoded batch, after it was compared with the validator record by record."""
        records = list(records)
        batch = self.decoder.decode(records, now_ms)
        assert len(batch.rejections) == len(records)
        validations = [self.validator.validate(r, now_ms) for r in records]
        assert [v.rejection for v in validations] == batch.rejections
        assert {i: v.ignored for i, v in enumerate(validations) if v.ignored is not None} == batch.ignored
        valid = [i for i, v in enumerate(validations) if v.rejection is None and v.ignored is None]
        assert valid == batch.accepted.tolist()
        assert sum(v.unknown_fields for v in validations if v.rejection is None) == batch.unknown_fields
        return batch

    def one(self, value, **options):
        """Return the batch of one record with this value."""
        return self.decode([record(value, **options)])

    def rejection(self, value, **options):
        """Return why the record is rejected; None if it is not."""
        return self.one(value, **options).rejections[0]

    def reason(self, value, **options):
        """Return the reason as text; None if the record is accepted."""
        rejection = self.rejection(value, **options)
        return None if rejection is None else rejection.reason.value

    def row(self, value, **options):
        """Feature → value of an accepted record."""
        batch = self.one(value, **options)
        assert batch.rejections == [None]
        return {f.name: column[0] for f, column in zip(self.features, batch.columns.values, strict=True)}
