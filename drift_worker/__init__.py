"""The drift service: counts events and scores in windows and announces when they have moved.

In the order a record meets them; three layers that never mix: counts (facts, additive integers), measurements (numbers
computed from counts), decisions (a policy over measurements).

Counts
    reference.py   the bundle whose reference is compared with
    cells.py       a reference column → the cells that events are counted in
    counts.py      events → what to add to which cell; the customers' sketch
    event_time.py  panes and watermarks
    deltas.py      counts as bytes, between the stages and for a restart
    counting.py    stage 1: records → deltas, exactly once
    windows.py     deltas → windows; complete, late
Measurements
    columns.py     what the reference says of each feature
    spans.py       cells of several features side by side
    subjects.py    all features of a window in one table, and what they are compared with
    season.py      the same hours of past weeks, instead of the reference
    repeats.py     how much repeated customers tell
    psi.py ks.py categories.py rates.py quality.py tails.py   one statistic each
    compare.py     the table against what was before
    measure.py     window × reference → numbers
Decisions
    level.py       how small a p-value must be, from a budget of false alerts
    decide.py      measurements → findings
    mismatch.py    whether the reference fits at all, by a table
    lifecycle.py   findings → states, by a table
    episodes.py evidence.py   states → alerts, and what they say
    evaluating.py  stage 2: windows → measurements and alerts, in one transaction
The business level, in the order of a label
    joining.py facts.py join.py   predictions and labels → facts, exactly once; the rule by which they belong together
    label_store.py cohorts.py performance.py estimate.py   facts → how good the model was, day by day, and should be
    performance_drop.py   cohorts → PerformanceDrop
    performing.py both_levels.py   all of it beside the windows, in their transactions
The process
    settings.py metrics.py report.py service.py __main__.py
"""
