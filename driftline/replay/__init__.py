"""Send the customers of a file as events.

event_source.py    customers → events
injected_drift.py  --drift: how features are moved, and when
sender.py          events → Kafka, at a rate
"""
