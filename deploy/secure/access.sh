#!/usr/bin/env bash
# Users and ACLs of the secured variant, with Kafka's own tools and the admin's certificate. What is there stays.
# The ACLs are those of docs/connect-your-kafka.md; tests/contract/test_compose.py compares them.
set -euo pipefail

cat > /tmp/admin.properties << 'PROPERTIES'
security.protocol=SSL
ssl.keystore.type=PEM
ssl.keystore.location=/secrets/admin.pem
ssl.truststore.type=PEM
ssl.truststore.location=/secrets/ca.pem
PROPERTIES

# Each call is a Java of its own that lives for a second: start small.
export KAFKA_HEAP_OPTS=-Xmx128m
export KAFKA_JVM_PERFORMANCE_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
as_admin=(--bootstrap-server kafka:19093 --command-config /tmp/admin.properties)

for user in scorer drift-worker upstream operator; do
  /opt/kafka/bin/kafka-configs.sh "${as_admin[@]}" --alter --entity-type users --entity-name "$user" \
    --add-config-file "/secrets/$user.scram"
done

acl() {
  /opt/kafka/bin/kafka-acls.sh "${as_admin[@]}" --add "$@" > /dev/null
  echo "allowed: $*"
}

# What the document lists one by one is one call here where the operation is the same.
acl --allow-principal User:scorer --operation Read \
  --topic customer-events --topic predictions --topic dead-letters --group driftline-scorer
acl --allow-principal User:scorer --operation Write --topic predictions --topic predictions-shadow --topic dead-letters
acl --allow-principal User:scorer --operation Write --transactional-id driftline-scorer. --resource-pattern-type prefixed

acl --allow-principal User:drift-worker --operation Read \
  --topic customer-events --topic predictions --topic drift-panes --topic drift-measurements \
  --topic labels --topic driftline-label-state \
  --group driftline-drift --group driftline-drift-evaluator --group driftline-drift-labels
acl --allow-principal User:drift-worker --operation Write \
  --topic drift-panes --topic drift-measurements --topic drift-alerts --topic driftline-label-state
acl --allow-principal User:drift-worker --operation Write \
  --transactional-id driftline-drift. --transactional-id driftline-drift-evaluator. \
  --transactional-id driftline-drift-labels. --resource-pattern-type prefixed

acl --allow-principal User:upstream --operation Write --topic customer-events --topic labels

# Whoever runs commands here: topics, verify, compare, export, dead letters, skip, alerts, backtest, report.
acl --allow-principal User:operator --operation Create --operation Describe --operation DescribeConfigs \
  --topic customer-events --topic predictions --topic dead-letters --topic drift-panes --topic drift-measurements \
  --topic drift-alerts --topic predictions-shadow --topic labels --topic driftline-label-state
acl --allow-principal User:operator --operation Read \
  --topic customer-events --topic predictions --topic dead-letters --topic drift-measurements --topic drift-alerts \
  --topic predictions-shadow --topic labels --group driftline-scorer
acl --allow-principal User:operator --operation Describe --group driftline-scorer
acl --allow-principal User:operator --operation Write --topic customer-events --topic dead-letters
acl --allow-principal User:operator --operation Read --group driftline-redrive. --resource-pattern-type prefixed
acl --allow-principal User:operator --operation Write \
  --transactional-id driftline-redrive. --transactional-id driftline-scorer. --resource-pattern-type prefixed
