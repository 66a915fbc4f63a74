"""The native lane: what the optional library `driftline-native` (the folder native/) does in the place of Python.

- library.py: finds the library, and tries it on a model before it serves.
- records.py: fetched record batches as records.
- events.py: a batch's events as columns.
- predictions.py: a batch's predictions as record batches.

The Python code is the definition, and serves wherever the library does not: without it, for what it hands back, and
where SCORER_LANE says so.
"""
