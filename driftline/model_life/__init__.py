"""Follow a model after its training.

labelled_customers.py  files, or events and labels → customers whose outcome is known
labelled_source.py     options that name labelled customers → these customers, from a file or from topics
data_checks.py         whether such data is sound
recent_customers.py    recent customers of a file
rebaseline.py          a newer reference for the same model
retrain_policy.py      what happened → what is done, by a table
candidate.py           a champion and labelled customers → a candidate, and both on the same rows
trained_rows.py        rows that a model was fitted on
model_comparison.py    whether one model is better than another
model_selection.py     what evaluate, retrain and promote share
retraining.py          the decision to train, the rows, and a candidate
challenger_comparison.py  whether a challenger is better than the champion
"""
