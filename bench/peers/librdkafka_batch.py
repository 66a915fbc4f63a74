"""confluent-kafka (librdkafka) by hand: batches, one transaction each, as its eos-transactions example does it.

The code of a careful programmer without a framework, for events that are all valid: no validation, no dead letters, no
metrics. librdkafka implements the protocol in which one producer per process is safe.
"""

import signal

import orjson
from confluent_kafka import Consumer, Producer
from model import BOOTSTRAP, GROUP, INPUT, OUTPUT, predict

BATCH_RECORDS = 2000
# How long a batch may wait to fill: more costs event age at low rates, less costs throughput on a backlog.
BATCH_WAIT_S = 0.02
running = True


def stop(*_: object) -> None:
    """Finish the current batch after SIGTERM."""
    global running  # noqa: PLW0603 - a script of one loop
    running = False


signal.signal(signal.SIGTERM, stop)
consumer = Consumer(
    {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": GROUP,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    }
)
consumer.subscribe([INPUT])
producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": GROUP, "linger.ms": 5})
producer.init_transactions()
while running:
    messages = [m for m in consumer.consume(BATCH_RECORDS, timeout=BATCH_WAIT_S) if m.error() is None]
    if not messages:
        continue
    answers = predict([orjson.loads(message.value()) for message in messages])
    producer.begin_transaction()
    for message, answer in zip(messages, answers, strict=True):
        producer.produce(OUTPUT, key=message.key(), value=orjson.dumps(answer))
    producer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata())
    producer.commit_transaction()
consumer.close()
