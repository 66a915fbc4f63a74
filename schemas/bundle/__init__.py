"""The model bundle: the only artifact that moves from training to the services. A bundle is a directory.

inputs.py    features and events: what a record must hold
manifest.py  what a bundle says about its model, and a reader's errors
files.py     its files: checked, signed, read, written and copied
"""
