"""Score events, in the order a record meets these files.

settings.py          its settings
model.py             a verified bundle → a model
direct.py            a fitted pipeline compiled to arrays, proven equal when the bundle is loaded
trees.py             boosted trees and forests on few rows, walked in numpy
pipeline.py          a batch of records → exactly one outcome each (schemas.event decodes)
native/              the optional library in the place of Python, proven equal when the bundle is loaded
score.py             columns → probabilities; a batch that fails is halved
predict.py           one event over HTTP → its prediction, through the same code
processor.py         the service's part of the exactly-once loop: batches → outputs
dead_letter_limit.py the share of rejected records that pauses a partition
endpoints.py         GET /health
http.py              POST /predict and its description
reload.py            a changed bundle → the next model, or the reason against it
challenger/          a second model beside the champion
previous_outputs.py  outputs that an earlier process left in the output topics
telemetry.py         log line and counters of everything that happens
tracing.py           a batch and its sampled events → spans
metrics.py           every series that the scorer exports
offline.py           one bundle, loaded as the service loads it, without Kafka
service.py           the process: processor, health, life cycle
"""
