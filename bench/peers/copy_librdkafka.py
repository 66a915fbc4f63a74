"""Copy events without looking at them: confluent-kafka (librdkafka), with or without transactions.

The limit for any program on it. With BENCH_TRANSACTIONS it follows its eos-transactions example in batches. Without
them, offsets are committed when the broker has every answer of the batch.
"""

import os
import signal

from confluent_kafka import Consumer, Producer

BOOTSTRAP, GROUP = os.environ["BENCH_BOOTSTRAP"], os.environ["BENCH_GROUP"]
INPUT, OUTPUT = os.environ["BENCH_INPUT"], os.environ["BENCH_OUTPUT"]
TRANSACTIONS = "BENCH_TRANSACTIONS" in os.environ
BATCH_RECORDS = 5000
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
options = {"bootstrap.servers": BOOTSTRAP, "linger.ms": 5}
producer = Producer(options | ({"transactional.id": GROUP} if TRANSACTIONS else {"enable.idempotence": True}))
if TRANSACTIONS:
    producer.init_transactions()
while running:
    messages = [m for m in consumer.consume(BATCH_RECORDS, timeout=BATCH_WAIT_S) if m.error() is None]
    if not messages:
        continue
    if TRANSACTIONS:
        producer.begin_transaction()
    for message in messages:
        producer.produce(OUTPUT, key=message.key(), value=message.value())
    if TRANSACTIONS:
        offsets = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()
    else:
        producer.flush()
        consumer.commit(asynchronous=False)
consumer.close()
