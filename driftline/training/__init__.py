"""Make model bundles from a spec and customers.

spec.py                 what the customers look like, as TOML
infer_spec.py           a first spec from a file
dataset.py              a file of customers → typed columns
customer_file.py        CSV, JSON Lines, Parquet → a table of cells
infer_format.py         separator, decimal mark and missing marks of a file
text_columns.py         columns that look like dates or free text
estimators.py           [estimator] of a spec → an unfitted estimator
train.py                columns → a fitted model, its reference and manifest
without_labels/         what estimates from scores alone need, and how far they may be off
golden_rows.py          rows whose scores a bundle repeats when it is loaded
estimator_formats.py    files of skops, MLflow and boosters → joblib's bytes, or the way to them
estimator_file.py       a file → an estimator that could be served
own_answers.py          what it answers as it was fitted, and that a scorer answers the same
fitted_estimator.py     a bundle around an estimator that the user fitted
loaded_bundle.py        a bundle → its estimator, for commands
infer_event.py          a first mapping from a handful of records
event_sample.py         records from a file or a topic, and what becomes of each with a spec
synthetic_customers.py  invented customers
"""
