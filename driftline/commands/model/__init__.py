"""Define the commands that make, compare and promote models.

train.py       train, generate
bundle.py      bundle, spec infer
keys.py        keys, sign
evaluate.py    evaluate
retrain.py     retrain
compare.py     compare
promote.py     promote, rollback
rebaseline.py  rebaseline
"""
