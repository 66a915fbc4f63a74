"""Provide what every service process needs, apart from Kafka.

settings.py   environment → frozen settings
setting_types.py  types of settings: addresses, durations, files, names
process.py    CPU, memory and file descriptors of the process
printable.py  text with control characters made visible
logs.py       one JSON object a line
metrics.py    building blocks of metrics
tracing.py    spans by OTLP (the extra `otel`)
http.py       health and metrics on a thread of their own
lifecycle.py  start, run, drain, stop; exit codes
"""
