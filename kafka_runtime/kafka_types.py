"""The names of Kafka's types that the services use, so that they import no Kafka library."""

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

__all__ = [
    "ConsumerRecord",
    "KafkaError",
    "MessageSizeTooLargeError",
    "TopicAuthorizationFailedError",
    "TopicPartition",
    "UnknownTopicOrPartitionError",
]
