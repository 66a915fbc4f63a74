"""The Grafana dashboards, as classic JSON (schema 41); `make docs` writes them to deploy/grafana/dashboards.

No panel repeats a number that is decided elsewhere: limits are `driftline_drift_limit`, the objective is recorded by a
rule. `tests/observability` sends each query to a real Prometheus, and each must return something.

    layout.py     panels, rows and variables as data; numbers and places of panels; shared expressions
    technical.py  are events answered, in time, each once?
    data.py       are these the customers that the model was trained on?
    business.py   what does the model predict, and how often is it right?
"""
