"""The contestants' programs. Each runs in a separate environment and imports only model.py from this project.

A script reads BENCH_INPUT from the earliest offset at BENCH_BOOTSTRAP, in the group BENCH_GROUP if it has one. It
writes one answer per event to BENCH_OUTPUT, with the event's `event_time` in it, until SIGTERM. Its docstring names the
documented way that it follows; a comment gives the reason for each departure from the library's defaults. <name>.in
lists its requirements; `make lock` pins them in <name>.lock.
"""
