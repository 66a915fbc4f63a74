"""Errors sorted by the next action, as in docs/delivery.md."""

import pytest
from aiokafka import errors as kafka

from kafka_runtime.errors import Action, BlockedError, classify


class _TornBatchError(Exception):
    """Represents the error that a decoder raises on an unreadable batch: no KafkaError."""


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize(
    ("error", "action"),
    [
        (kafka.ProducerFenced(), Action.FENCED),
        (kafka.InvalidProducerEpoch(), Action.FENCED),
        (kafka.IllegalStateError("not assigned"), Action.LOST),
        (kafka.NoOffsetForPartitionError(), Action.NO_OFFSET),
        (kafka.OffsetOutOfRangeError(), Action.NO_OFFSET),
        (kafka.TopicAuthorizationFailedError(), Action.STOP_NOT_AUTHORISED),
        (kafka.GroupAuthorizationFailedError(), Action.STOP_NOT_AUTHORISED),
        (kafka.TransactionalIdAuthorizationFailed(), Action.STOP_NOT_AUTHORISED),
        (kafka.SaslAuthenticationFailed(), Action.STOP_NOT_AUTHORISED),
        (kafka.UnsupportedSaslMechanismError(), Action.STOP_NOT_AUTHORISED),
        (kafka.UnknownTopicOrPartitionError(), Action.STOP_TOPIC_MISSING),
        (BlockedError("drift-measurements-0"), Action.STOP_BLOCKED),
        (kafka.KafkaConnectionError(), Action.REBUILD),
        (kafka.RequestTimedOutError(), Action.REBUILD),
        (TimeoutError(), Action.REBUILD),
    ],
)
def test_what_means_the_same_wherever_it_is_raised(error, action, reading):
    """Fenced, lost, no offset, not authorised, no topic, and what passes."""
    assert classify(error, reading=reading) is action


@pytest.mark.parametrize(
    "error",
    [
        kafka.CorruptRecordException(),
        kafka.UnsupportedCodecError(),
        kafka.RecordTooLargeError("x"),
        _TornBatchError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a header's name"),
        AssertionError(),
        ValueError(),
        MemoryError(),
    ],
)
def test_what_cannot_be_read_quarantines_the_partition(error):
    """It would return for ever, and hide the good records before it."""
    assert classify(error, reading=True) is Action.QUARANTINE


@pytest.mark.parametrize(
    "error",
    [
        kafka.OutOfOrderSequenceNumber(),
        kafka.InvalidProducerIdMapping(),
        kafka.UnknownProducerId(),
        kafka.InvalidTxnState(),
        kafka.NotEnoughReplicasError(),
        kafka.MessageSizeTooLargeError(),
        AssertionError("the producer's state machine"),
        kafka.IllegalOperation("Can't send messages while not in transaction"),
        ConnectionResetError(),
    ],
)
def test_an_unknown_outcome_or_a_used_up_producer_is_rebuilt(error):
    """Anywhere between begin and commit, and in the producer's life."""
    assert classify(error, reading=False) is Action.REBUILD


@pytest.mark.parametrize("error", [ValueError(), KeyError(), AttributeError(), ZeroDivisionError(), RuntimeError()])
def test_a_defect_of_ours_stops_loudly(error):
    """Nothing is caught broadly."""
    assert classify(error, reading=False) is Action.CRASH


def test_what_waits_for_a_person_has_the_word_of_readyz():
    """The action's value is the partition's state and the reason of /readyz."""
    assert [Action.STOP_NOT_AUTHORISED.value, Action.STOP_TOPIC_MISSING.value, Action.QUARANTINE.value] == [
        "not_authorised",
        "topic_missing",
        "quarantined",
    ]
