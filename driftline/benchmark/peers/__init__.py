"""The contestants' programs. Each runs by itself, in its own environment, and imports nothing of ours but model.py.

A script reads BENCH_INPUT from the earliest offset at BENCH_BOOTSTRAP, in the group BENCH_GROUP if it has one, and
writes one answer per event to BENCH_OUTPUT, with the event's `event_time` in it, until SIGTERM. Its docstring says
which documented way it follows; where it departs from the library's defaults, a comment says why. What it needs stands
in <name>.in; `make lock` pins it in <name>.lock.
"""
