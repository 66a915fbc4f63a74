"""Bytewax with its Kafka operators: batches of at most 1,000 (its default), a recovery store as it recommends."""

import tempfile
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from model import BOOTSTRAP, INPUT, OUTPUT, predict


def score(records: list[KafkaSourceMessage]) -> list[KafkaSinkMessage]:
    """Return one answer per record."""
    answers = predict([orjson.loads(record.value) for record in records])
    return [KafkaSinkMessage(r.key, orjson.dumps(answer)) for r, answer in zip(records, answers, strict=True)]


flow = Dataflow("score")
events = kop.input("events", flow, brokers=[BOOTSTRAP], topics=[INPUT])
answers = op.flat_map_batch("score", events.oks, score)
kop.output("answers", answers, brokers=[BOOTSTRAP], topic=OUTPUT)

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as store:
        init_db_dir(Path(store), 1)
        # The default interval between two snapshots of the offsets, written out.
        cli_main(flow, epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(store))
