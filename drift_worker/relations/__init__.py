"""Compute how features go together from sums of their products: pure, like `statistics`.

matrix.py   sums of products → correlations, and means of numbers within categories
change.py   a window against the reference, or against the calm past: every test
past.py     the calm windows before, and how much their relations vary
measure.py  window × reference → what a measurement holds of relations
"""
