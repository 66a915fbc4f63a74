"""Describe the shapes as documents for other programs: JSON Schema and AsyncAPI.

json_schema.py  an event as JSON Schema, for the features of a bundle
export.py       all shapes as files: schemas/json, docs/asyncapi.yaml (make docs)
"""
