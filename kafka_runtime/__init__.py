"""Serve partitions of Kafka topics exactly once. Both services share this package; it contains no domain code.

errors.py           an exception → the action that follows
clients.py          aiokafka clients from settings
login/              tokens, and connections that log in again
kafka_types.py      record types of the Kafka library
sinks.py            outputs and offset of one batch, all or nothing
decompression.py    bounded decoders of compressed batches
topic_id.py         the id that distinguishes a recreated topic from the one that was read
topics.py           topics of the cluster: list, create
topic_reader.py     whole topics, read outside any group
producer.py         records sent without a transaction
open_transaction.py records that are held back by an open transaction
fetched.py          fetched batches → records, without aiokafka's objects for each, in Python or in a library
native/             the optional library, and fetched batches that it reads
prefetch.py         records of a partition, read ahead and bounded
processor.py        the contract between a service and its partitions
partition_telemetry.py  log lines and metrics of partitions, the same in each service
owned_partition.py  one assigned partition: fence, seek, serve, drain
readiness.py        the reasons of /readyz
group_member.py     the group member: tasks for assigned partitions, readiness, liveness
model_registry.py   a model in MLflow's registry → a folder of this process
schema_registry/    schemas of a registry: requests, and what a process knows
service/            what every service process has: settings, logs, HTTP, metrics, life cycle
"""
