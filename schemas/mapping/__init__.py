"""Define how a record of another producer is mapped to an event.

places.py  paths into a record: its value, a key that is JSON, headers, the Kafka timestamp
"""
