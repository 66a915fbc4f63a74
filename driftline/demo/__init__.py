"""Run the demonstrations: `driftline demo` and `driftline demo-life`.

pipeline.py    `demo`: the whole pipeline, drift, an alert
model_life.py  `demo-life`: from a trained model to its successor
stage.py       Kafka, services and topics of a demonstration
upstream.py    the upstream system of demo-life
progress.py    the plan, and how far it has come
view.py        what the terminal shows
chart.py       the picture of demo-life
recompute.py   the same numbers by scikit-learn, out of the prediction log
"""
