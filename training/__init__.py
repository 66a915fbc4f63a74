"""Makes model bundles: data, estimator, drift reference and manifest; and says which of two is better.

A bundle
    spec.py infer.py       what the customers look like, as TOML; a first one from a file
    dataset.py columns.py  a file of customers → typed columns, and what they look like
    estimators.py train.py calibrate.py golden.py  columns → a fitted model, what its scores mean, and how it is tried
    existing.py            the same around an estimator that somebody fitted
    recent.py rebaseline.py  another reference for the same model
    generate.py            invented customers
The life of a model
    labelled.py            files, or events and labels → customers whose outcome is known
    checks.py              whether such data is sound
    policy.py              what happened → what is done, by a table
    retrain.py seen.py loaded.py  a candidate, and rows that neither model was fitted on
    compare.py             is one better than the other? Asked once
"""
