"""Provide the command line: every tool that a person runs by hand.

cli.py                 registers the commands; exit codes
errors.py              an expected error: one line, one exit code
settings.py            settings of commands
since.py               --since and other times
terminal.py            how a command prints: control characters escaped, no markup
alert_topic.py         the alerts topic: all messages, open alerts
topic_plan.py          the topics as they should be, and differences
access_plan.py         each user's rights; topics and users for Strimzi
redriving.py           dead letters: read, send again, skip
drift_history.py       measurements and alerts of each model
example_files.py       the example's customers and specs
schema_registry/       a spec and the schemas of a registry
commands/              one file for each command
training/              a spec and customers → a bundle
model_life/            labelled customers, retraining, comparison
reference_diff.py      how two references differ
policy_backtest.py     what other limits would have announced
paired_predictions.py  champion and challenger on the same events
mlflow_tracking.py     runs and models in MLflow
verifier_events.py  the verifier's own reading of events
verifier.py            proof that every event was answered once; shares no code with the services
alertmanager/          alerts from the topic to an Alertmanager
prediction_log/        predictions with their inputs and labels as files
replay/                customers of a file sent as events
local_kafka/           a real Apache Kafka on this machine
demo/                  `driftline demo` and `driftline demo-life`
evidently/             a report by another library, in a separate environment
"""

__version__ = "0.1.0"
