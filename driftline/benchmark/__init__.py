"""What `driftline bench` is made of, in the order of a run.

contestants.py  who is measured: **a new peer is one entry here and one script in peers/**
peers/          their scripts, each written as its own documentation says, and their pinned requirements
environments.py a virtual environment per peer, made when it is first wanted
feed.py         the process that makes events, at a rate or as fast as it can
stage.py        broker, models, topics, and the eyes on them (confluent-kafka, which shares no code with the services)
processes.py    a contestant as a process: CPU time and memory of it and its children
measure.py      the two measurements: a backlog, and event age at given rates
figures.py      timestamps and samples → figures; pure
bars.py         the figures → bars reached or not; pure
report.py       the figures → a table on the terminal and docs/benchmark.md; pure
chart.py        the figures → docs/benchmark.svg; pure
"""
