"""The Kafka and HTTP shell that both services share. It knows nothing of churn or drift.

settings.py     environment → frozen settings
logs.py         one JSON object a line
errors.py       an exception → what to do next
clients.py      aiokafka clients from settings
transactions.py outputs and offset of one batch, all or nothing
decompression.py  how large a batch may become
topic_id.py     whether a topic is still the one that was read
reading.py      whole topics read outside any group
producing.py    records sent without a transaction, for those who produce events
topics.py       the cluster's topics: look, create
inbox.py        reads a partition ahead of its task, bounded
work.py         what a service brings to its partitions, and what it is told
partitions.py   who owns a partition, and the task that serves it
consumer.py     the group member: tasks for the assigned partitions, readiness, liveness
registry.py     a model in MLflow's registry → a folder of this process
lifecycle.py    start, run, drain, stop; exit codes
http.py         health and metrics on a thread of their own
"""
