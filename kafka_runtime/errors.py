"""Errors sorted by the next action. One function classifies; no other code catches broadly."""

from __future__ import annotations

from enum import StrEnum

from aiokafka import errors as kafka


class Action(StrEnum):
    """The action that an error on a partition requires."""

    FENCED = "fenced"  # another process owns it: never retry with this producer; start over if it is still assigned
    REBUILD = "rebuild"  # the outcome is unknown or the producer is unusable: close it and start over
    LOST = "lost"  # no longer assigned to this process: end
    NO_OFFSET = "no_offset"  # no committed offset, or one outside the log: a setting decides
    STOP_NOT_AUTHORISED = "not_authorised"  # a person must act; probe until they have
    STOP_TOPIC_MISSING = "topic_missing"  # the same
    STOP_BLOCKED = "input_blocked"  # a person must end a transaction; probe until then
    QUARANTINE = "quarantined"  # the data at this offset cannot be read
    CRASH = "crash"  # an internal error: stop loudly


class BlockedError(kafka.KafkaError):  # type: ignore[misc] # the base class has no types
    """A record to be read is behind an open transaction of another program."""


class CertificateRefusedError(kafka.KafkaError):  # type: ignore[misc] # the base class has no types
    """TLS: the broker rejects this client's certificate, or the broker's own is not trusted here."""


_FENCED = (kafka.ProducerFenced, kafka.InvalidProducerEpoch)
_NOT_AUTHORISED = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    CertificateRefusedError,
)
_TOPIC_MISSING = (kafka.UnknownTopicOrPartitionError, kafka.InvalidTopicError)
_NO_OFFSET = (kafka.NoOffsetForPartitionError, kafka.OffsetOutOfRangeError)


def classify(error: BaseException, *, reading: bool) -> Action:
    """Return the action for an error.

    `reading`: raised while fetching records; otherwise in a transaction or in the producer.
    """
    if isinstance(error, _FENCED):
        return Action.FENCED
    if isinstance(error, kafka.IllegalStateError):
        return Action.LOST
    if isinstance(error, BlockedError):
        return Action.STOP_BLOCKED
    if isinstance(error, _NO_OFFSET):
        return Action.NO_OFFSET
    if isinstance(error, _NOT_AUTHORISED):
        return Action.STOP_NOT_AUTHORISED
    if isinstance(error, _TOPIC_MISSING):
        return Action.STOP_TOPIC_MISSING
    if reading:
        # RecordTooLarge has already stepped over the record. Other errors than KafkaError come from the decoder (bad
        # CRC, unknown codec, a header key that is not UTF-8). They would recur forever and hide the good records before
        # this one.
        if isinstance(error, kafka.RecordTooLargeError | kafka.CorruptRecordException | kafka.UnsupportedCodecError):
            return Action.QUARANTINE
        return Action.REBUILD if isinstance(error, kafka.KafkaError | TimeoutError) else Action.QUARANTINE
    if isinstance(error, kafka.KafkaError | kafka.IllegalOperation | TimeoutError | AssertionError | OSError):
        # AssertionError, IllegalOperation: the producer's state machine, fenced by another process in the middle of a
        # batch
        return Action.REBUILD
    return Action.CRASH
