"""The position of the answer to each of millions of events, read as by a downstream consumer, in 16 bytes each."""

from __future__ import annotations

import threading
from array import array

from confluent_kafka import Consumer, TopicPartition
from support.oracle import Names

PARTITIONS = 4
NOBODY = -1


class Places(threading.Thread):
    """Reads both output topics all the time: what was visible for a moment only is seen, too."""

    def __init__(self, bootstrap: str, names: Names) -> None:
        super().__init__(name="places", daemon=True)
        self.doubled: list[str] = []
        self.answers = 0
        self.dead_letters = 0
        self._letters = names.dead_letters
        # input partition → per input offset, the output offset of its answer; a dead letter's is below -1
        self._found = {partition: array("q") for partition in range(PARTITIONS)}
        self._ended = threading.Event()
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": f"{names.prefix}-places", "isolation.level": "read_committed",
             "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        )  # fmt: skip
        self._consumer.assign(
            [TopicPartition(t, p, 0) for t in (names.predictions, names.dead_letters) for p in range(PARTITIONS)]
        )
        self.start()

    def run(self) -> None:
        while not self._ended.is_set():
            for message in self._consumer.consume(num_messages=5000, timeout=0.2):
                if message.error() is None:
                    headers = dict(message.headers())
                    letter = message.topic() == self._letters
                    self._note(
                        int(headers["driftline-source-partition"]),
                        int(headers["driftline-source-offset"]),
                        -2 - message.offset() if letter else message.offset(),
                    )
                    self.dead_letters += letter

    def _note(self, partition: int, offset: int, place: int) -> None:
        self.answers += 1
        found = self._found[partition]
        if offset >= len(found):
            found.extend([NOBODY] * (offset + 1 - len(found)))
        if found[offset] == NOBODY:
            found[offset] = place
        else:
            self.doubled.append(f"{partition}@{offset} at output offsets {found[offset]} and {place}")

    def lost(self, ends: dict[int, int]) -> list[str]:
        """Input records below `ends` without an answer."""
        missing = []
        for partition, end in ends.items():
            found = self._found[partition]
            missing += [
                f"{partition}@{offset}" for offset in range(end) if offset >= len(found) or found[offset] == NOBODY
            ]
        return missing

    def close(self) -> None:
        self._ended.set()
        self.join(10)
        self._consumer.close()
