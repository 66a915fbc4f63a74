"""Define every shape that crosses a process, in the order a record meets them.

setting_names.py  names of all settings and topics
bundle/           the model bundle: manifest, hashes, signature
task.py           what a model predicts: how it is called, which results are valid, what a prediction holds
features.py       feature specs → column layout and columns
fitted_columns.py the columns of a fitted estimator, and their order
reference.py      the drift reference inside the bundle
timestamps.py     times as text or numbers, one at a time and in batches
event.py          bytes of an event → columns, or the reason of the rejection
native_events.py  the same where the library of native/ is installed
validation.py     the definition of a valid event
rejection_reasons.py  why a record is rejected: the reasons of a dead letter
prediction.py     score → bytes of a prediction
headers.py        the headers of every record that the services write
dead_letter.py    a rejected record → the record of its dead letter
label.py          what became of a customer
alert.py          an alert on the alerts topic
measurement.py    the numbers of one closed window
performance.py    the numbers of one cohort of labelled predictions
formats/          records behind a schema id of a registry
mapping/          records of other producers: where their parts are
documents/        these shapes as JSON Schema and AsyncAPI
"""
