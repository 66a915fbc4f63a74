"""FastStream on aiokafka, a batch subscriber and a batch publisher, acknowledged after the handler (at-least-once).

`max_records` and `max_batch_size` belong together: FastStream rejects a batch of answers that exceeds the buffer.
"""

import asyncio
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from model import BOOTSTRAP, GROUP, INPUT, OUTPUT, predict

broker = KafkaBroker(BOOTSTRAP, max_batch_size=1_000_000, max_request_size=2_000_000)
app = FastStream(broker)


@broker.subscriber(
    INPUT, group_id=GROUP, batch=True, max_records=1000, auto_offset_reset="earliest", ack_policy=AckPolicy.ACK
)
@broker.publisher(OUTPUT, batch=True)
async def score(events: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return one answer per event of the batch."""
    return tuple(predict(events))


asyncio.run(app.run())
