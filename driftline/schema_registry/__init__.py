"""Use the schemas of a registry before anything runs: a spec from one, and a spec beside one.

newest_schema.py  the newest schema of a subject, and whether it fits a spec
schema_sample.py  a schema → a few invented events, to infer a spec from
"""
