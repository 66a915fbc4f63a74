"""The native lane of the scorer: what the library of native/ does for a model, where it is installed.

- lane.py: tries the library on a model before it serves.
- predictions.py: a batch's predictions as record batches.

Its events are read by schemas/native_events.py, and record batches by kafka_runtime/native.
"""
