"""The names of Kafka's things that the services use; they import no Kafka library themselves."""

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

__all__ = ["ConsumerRecord", "KafkaError", "TopicAuthorizationFailedError", "TopicPartition"]
