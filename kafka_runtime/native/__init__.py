"""The optional library `driftline-native` (the folder native/): where it is, and what it does for every service.

- library.py: finds the library.
- records.py: fetched record batches as records, tried before they serve.

What else it does is in schemas/native_events.py (a batch's events as columns) and in scorer/native/ (predictions as
record batches). The Python code is the definition, and serves wherever the library does not: without it, for what it
hands back, and where SCORER_LANE says so.
"""
