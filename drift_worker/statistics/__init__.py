"""Compute numbers from counts.

baseline.py           what the reference holds of each feature
stacked.py            bins of several features side by side, or of two distributions
partial_effects.py    how the mean score moves with each feature alone
feature_table.py      all features of a window in one table
calm_past.py          the calm windows before, and how much they vary
seasonal_baseline.py  the same hours of past weeks, instead of the reference
design_effect.py      how many independent events repeated customers amount to
psi.py                population stability index
wasserstein.py        normalised Wasserstein distance
catalogue.py          one row for each statistic
ks.py                 Kolmogorov-Smirnov distance
chi2.py               chi-squared test of categories
rates.py              shares of missing, unseen and far values, and of one that spread
data_quality.py       constant, all missing, another unit
tail_probability.py   tails of distributions, as logarithms
comparison.py         the table against its baseline
measure.py            window × reference → numbers
self_check.py         how far statistics differ from their null distribution on the reference
"""
