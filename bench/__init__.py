"""Measure the scorer beside alternatives (`driftline bench`), in the order of a run.

contestants.py   who is measured: **a new peer is one entry here and one script in peers/**
peers/           their scripts, each written as its own documentation shows, and their pinned requirements
forms.py         events as tables have them, of 5 KB, in Avro and in Protobuf, and a registry that has their schemas
environments.py  a virtual environment for each peer
feed.py          the process that makes events, at a rate or as fast as it can
stage.py         broker, models, topics, and readers that share no code with the services
processes.py     a contestant as a process: CPU time and memory of it and its children
measure.py       the two measurements: a backlog, and event age at given rates
drift.py         a drift worker on a backlog
run.py           one run of all contestants
figures.py       timestamps and samples → figures; pure
bars.py          the figures → bars reached or not; pure
report.py        the figures → a table on the terminal and docs/benchmark.md; pure
tracing.py       the cost of traces: a backlog with them off and on
autoscaling.py   the Helm chart's scaling over a day, computed
autoscaling_chart.py  its outcomes → docs/autoscaling.svg; pure
chart.py         the figures → docs/benchmark.svg; pure
"""
