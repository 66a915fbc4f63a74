"""FastStream on aiokafka as its documentation begins: one event per call, offsets committed automatically."""

import asyncio
from typing import Any

from faststream import FastStream
from faststream.kafka import KafkaBroker
from model import BOOTSTRAP, GROUP, INPUT, OUTPUT, predict

broker = KafkaBroker(BOOTSTRAP)
app = FastStream(broker)


@broker.subscriber(INPUT, group_id=GROUP, auto_offset_reset="earliest")
@broker.publisher(OUTPUT)
async def score(event: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one event."""
    return predict([event])[0]


asyncio.run(app.run())
