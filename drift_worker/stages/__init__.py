"""Consume: one file for each consumer of the drift worker.

count_events.py      stage 1: records → deltas, exactly once
earlier_counts.py    what an earlier process counted of a partition
evaluate_windows.py  stage 2: windows → measurements and alerts, in one transaction
record_labels.py     predictions and labels → label state, exactly once; label_join.py joins them
evaluate_cohorts.py  label state → cohorts
evaluator.py         windows and cohorts in one transaction
"""
