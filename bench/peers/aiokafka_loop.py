"""aiokafka as its documentation begins: `async for`, one prediction per event, `send_and_wait`, automatic commits."""

import asyncio
import json
import signal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from model import BOOTSTRAP, GROUP, INPUT, OUTPUT, predict


async def consume() -> None:
    """Answer event after event until SIGTERM."""
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    consumer = AIOKafkaConsumer(INPUT, bootstrap_servers=BOOTSTRAP, group_id=GROUP, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP)
    await consumer.start()
    await producer.start()
    try:
        async for record in consumer:
            (answer,) = predict([json.loads(record.value)])
            await producer.send_and_wait(OUTPUT, json.dumps(answer).encode(), key=record.key)
    finally:
        await consumer.stop()
        await producer.stop()


asyncio.run(consume())
