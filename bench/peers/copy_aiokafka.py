"""Copy events without looking at them: aiokafka, one transaction per partition and batch, whole batches at a time.

The limit for anything written on aiokafka with transactions. It follows the library's consume-process-produce example,
with one transactional producer per partition and `send_batch` instead of a future per record. No rebalancing: it is
alone in its group.
"""

import asyncio
import os
import signal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

BOOTSTRAP, GROUP = os.environ["BENCH_BOOTSTRAP"], os.environ["BENCH_GROUP"]
INPUT, OUTPUT = os.environ["BENCH_INPUT"], os.environ["BENCH_OUTPUT"]
BATCH_RECORDS = 5000


async def copy(consumer: AIOKafkaConsumer, source: TopicPartition) -> None:
    """Copy one partition without end."""
    producer = AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP,
        transactional_id=f"{GROUP}-{source.partition}",
        max_batch_size=1_000_000,
        max_request_size=8_000_000,
    )
    await producer.start()
    while True:
        records = (await consumer.getmany(source, timeout_ms=200, max_records=BATCH_RECORDS)).get(source)
        if not records:
            continue
        async with producer.transaction():
            sent = []
            batch = producer.create_batch()
            for record in records:
                if batch.append(key=record.key, value=record.value, timestamp=None) is None:
                    sent.append(await producer.send_batch(batch, OUTPUT, partition=source.partition))
                    batch = producer.create_batch()
                    batch.append(key=record.key, value=record.value, timestamp=None)
            sent.append(await producer.send_batch(batch, OUTPUT, partition=source.partition))
            await asyncio.gather(*sent)
            await producer.send_offsets_to_transaction({source: records[-1].offset + 1}, GROUP)


async def main() -> None:
    """Join the group and copy every partition until SIGTERM."""
    consumer = AIOKafkaConsumer(
        INPUT,
        bootstrap_servers=BOOTSTRAP,
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    copies = asyncio.gather(*(copy(consumer, source) for source in consumer.assignment()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, copies.cancel)
    try:
        await copies
    except asyncio.CancelledError:
        await consumer.stop()


asyncio.run(main())
