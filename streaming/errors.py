"""Errors sorted by what to do next. One function classifies; nothing else catches broadly."""

from __future__ import annotations

from enum import StrEnum

from aiokafka import errors as kafka


class Action(StrEnum):
    """What an error on a partition calls for."""

    FENCED = "fenced"  # somebody else owns it: never retry with this producer; start over if it is still assigned
    REBUILD = "rebuild"  # the outcome is unknown or the producer is used up: throw it away and start over
    LOST = "lost"  # not assigned to us any more: end
    NO_OFFSET = "no_offset"  # no committed offset, or one outside the log: a setting decides
    STOP_NOT_AUTHORISED = "not_authorised"  # a person must act; probe until they have
    STOP_TOPIC_MISSING = "topic_missing"  # the same
    QUARANTINE = "quarantined"  # what stands at this offset cannot be read
    CRASH = "crash"  # a defect of ours: stop loudly


_FENCED = (kafka.ProducerFenced, kafka.InvalidProducerEpoch)
_NOT_AUTHORISED = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
)
_TOPIC_MISSING = (kafka.UnknownTopicOrPartitionError, kafka.InvalidTopicError)
_NO_OFFSET = (kafka.NoOffsetForPartitionError, kafka.OffsetOutOfRangeError)


def classify(error: BaseException, *, reading: bool) -> Action:
    """`reading`: raised while fetching records; otherwise anywhere in a transaction or in the producer's life."""
    if isinstance(error, _FENCED):
        return Action.FENCED
    if isinstance(error, kafka.IllegalStateError):
        return Action.LOST
    if isinstance(error, _NO_OFFSET):
        return Action.NO_OFFSET
    if isinstance(error, _NOT_AUTHORISED):
        return Action.STOP_NOT_AUTHORISED
    if isinstance(error, _TOPIC_MISSING):
        return Action.STOP_TOPIC_MISSING
    if reading:
        # RecordTooLarge has already stepped over the record. What is not a KafkaError is the decoder's (bad CRC,
        # unknown codec, a header key that is not UTF-8) and would return for ever, hiding the good records before it.
        if isinstance(error, kafka.RecordTooLargeError | kafka.CorruptRecordException | kafka.UnsupportedCodecError):
            return Action.QUARANTINE
        return Action.REBUILD if isinstance(error, kafka.KafkaError | TimeoutError) else Action.QUARANTINE
    if isinstance(error, kafka.KafkaError | kafka.IllegalOperation | TimeoutError | AssertionError | OSError):
        # AssertionError, IllegalOperation: the producer's state machine, fenced by somebody in the middle of a batch
        return Action.REBUILD
    return Action.CRASH
