"""Run a real Apache Kafka on this machine, without Docker.

broker.py  the broker as a process
jars.py    Kafka's jars from Maven Central, each checked by its sha256
"""
