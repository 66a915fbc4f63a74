"""Read schemas from a registry that speaks the API of Confluent's.

client.py  requests to the registry: a schema by its id, the newest of a subject
cache.py   the schemas of a process: each id is fetched once, and while the registry is away, that is reported
"""
