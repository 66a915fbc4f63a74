"""Every shape that crosses a process, in the order a record meets them.

bundle.py      the model bundle: manifest, hashes, signature
features.py    feature specs → column layout and columns
reference.py   the drift reference inside the bundle
event.py       bytes of an event → columns, or the reason it is refused
prediction.py  score → bytes of a prediction
headers.py     the headers every record we write carries
dead_letter.py refused record → what stands in the dead-letter topic
alert.py       an alert's life on the alerts topic
measurement.py what was measured in one closed window
json_schema.py an event as JSON Schema, for a bundle's features
export.py      all of these as files: schemas/json, docs/asyncapi.yaml (make docs)
"""
