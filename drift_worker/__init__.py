"""Count events and scores in windows and publish an alert when they have moved.

Data flows through the folders in this order; all but the stages are pure.

counts/       facts: additive integers of a window
statistics/   numbers computed from counts
relations/    the same of features together
alerting/     decisions: which numbers are an alert, and how an episode begins and ends
performance/  labels and predictions → how good the model was
stages/       the consumers, each named by what it does
page/         /drift.html and `driftline report`

reference.py  the bundle whose reference is compared with
settings.py   its settings
metrics.py    every series that the drift worker exports
telemetry.py  log line and counters of everything that happens
service.py    the process: stages, health, life cycle
session.py    the stages around one reference
lane.py       who reads records and events: Python, or the library of native/
follow.py     a changed bundle → the next reference
endpoints.py  /drift, /drift.html, /performance, /health
"""
