"""Technical: are events answered, in time, each once?"""

from __future__ import annotations

from deploy.dashboards.layout import SCORER, Panel, Row, Variable, dashboard, per_second, quantile

_INSTANCE = '{instance=~"$instance"}'
INSTANCE_VARIABLE = Variable("instance", 'up{job=~"scorer|drift-worker"}')

TECHNICAL = [
    Row(
        "Stream",
        [
            Panel(
                "Events per second",
                "Input records answered, by outcome: each is a prediction or a dead letter.",
                "cps",
                {
                    "answered": per_second(SCORER + "consumed_records_total"),
                    "{{outcome}}": per_second(SCORER + "records_total", "outcome"),
                },
            ),
            Panel(
                "Event age",
                "From the record's Kafka timestamp to the committed outcome, and the objective: 99 % are below it.",
                "s",
                {
                    "p50": quantile(0.5, SCORER + "event_age_seconds"),
                    "p95": quantile(0.95, SCORER + "event_age_seconds"),
                    "p99": quantile(0.99, SCORER + "event_age_seconds"),
                    "objective": "driftline:objective:seconds",
                },
                dashed="objective",
            ),
            Panel(
                "Error budget burn",
                "How many times faster than allowed the budget of each objective is used up, over the last hour and "
                "the last three days. Above 1, the objective will be missed.",
                "short",
                {"{{slo}} over {{over}}": 'driftline:burn_rate{over=~"1h|3d"}'},
            ),
            Panel(
                "Lag",
                "Records that wait, by partition: last stable offset minus position.",
                "short",
                {"{{topic}}-{{partition}}": f"max by (topic, partition) ({SCORER}lag_records{_INSTANCE})"},
            ),
            Panel(
                "Held back by an open transaction",
                "Offsets, by partition; 0 where nothing is. The lag does not count them.",
                "short",
                {
                    "{{topic}}-{{partition}}": "max by (topic, partition) "
                    f"({SCORER}blocked_records{_INSTANCE} or driftline_drift_blocked_records{_INSTANCE})"
                },
            ),
            Panel(
                "Offsets that were moved",
                "Records answered or counted again, or left out, because of it, by partition; found at the start.",
                "short",
                {
                    "{{job}} {{topic}}-{{partition}} {{effect}}": "max by (job, topic, partition, effect) "
                    f"({SCORER}offset_moved_records{_INSTANCE} or driftline_drift_offset_moved_records{_INSTANCE}) > 0"
                },
            ),
            Panel(
                "Lag in time",
                "Age of the last record read, by partition; 0 at the end.",
                "s",
                {"{{topic}}-{{partition}}": f"max by (topic, partition) ({SCORER}lag_seconds{_INSTANCE})"},
            ),
            Panel(
                "Partitions by state",
                "Running is good; every other state is a heading in the runbook.",
                "short",
                {"{{state}}": f"sum by (state) ({SCORER}partition_state{_INSTANCE}) > 0"},
            ),
            Panel(
                "Dead letters by reason",
                "Rejected records per second, by the reason in the header.",
                "cps",
                {"{{reason}}": per_second(SCORER + "dead_letters_total", "reason") + " > 0"},
            ),
            Panel(
                "Ignored records by reason",
                "Records per second that are no events by the spec: neither predicted nor refused.",
                "cps",
                {"{{reason}}": per_second(SCORER + "ignored_records_total", "reason") + " > 0"},
            ),
            Panel(
                "Transactions by outcome",
                "Committed ones write outputs and offset together; the others wrote no visible record. "
                "Records answered again: the broker took back the end of their transaction.",
                "cps",
                {
                    "{{outcome}}": per_second(SCORER + "transactions_total", "outcome"),
                    "records answered again": per_second(SCORER + "torn_records_total") + " > 0",
                },
            ),
            Panel(
                "Conservation",
                "Consumed records minus outcomes, by process. Anything but 0 for minutes is a defect.",
                "short",
                {
                    "{{instance}}": f"{SCORER}consumed_records_total{_INSTANCE} - sum without (outcome) "
                    f"({SCORER}records_total{_INSTANCE})"
                },
            ),
        ],
    ),
    Row(
        "Batches",
        [
            Panel(
                "Where the time goes",
                "Seconds that each stage takes per second.",
                "percentunit",
                {"{{stage}}": per_second(SCORER + "stage_seconds_sum", "stage")},
            ),
            Panel(
                "Records per batch",
                "Batches are small when there is little to do, and grow under a backlog.",
                "short",
                {"p50": quantile(0.5, SCORER + "batch_records"), "p95": quantile(0.95, SCORER + "batch_records")},
            ),
            Panel(
                "Event delay",
                "From the event's own time to the committed outcome. It includes upstream's clock and queue.",
                "s",
                {
                    "p50": quantile(0.5, SCORER + "event_delay_seconds"),
                    "p99": quantile(0.99, SCORER + "event_delay_seconds"),
                },
            ),
            Panel(
                "In hand",
                "Records read and not committed yet, by process.",
                "short",
                {"{{instance}}": f"{SCORER}in_flight_records{_INSTANCE}"},
            ),
            Panel(
                "Rebalances and rebuilt producers",
                "Per five minutes: assignments received, and producers replaced, by cause.",
                "short",
                {
                    "assignments": f"sum (increase({SCORER}rebalances_total{_INSTANCE}[5m]))",
                    "rebuilt: {{cause}}": f"sum by (cause) (increase({SCORER}producer_rebuilds_total{_INSTANCE}[5m]))",
                },
            ),
            Panel(
                "Fields and headers passed over",
                "Fields unknown to the model, keys that differ from the customer, headers reserved for Driftline.",
                "cps",
                {
                    "unknown fields": per_second(SCORER + "unknown_fields_total"),
                    "other keys": per_second(SCORER + "key_mismatches_total"),
                    "our headers": per_second(SCORER + "spoofed_headers_total"),
                },
            ),
            Panel(
                "Bundles",
                "Changed bundles that were loaded or refused, per hour.",
                "short",
                {"{{outcome}}": f"sum by (outcome) (increase({SCORER}model_reloads_total{_INSTANCE}[1h]))"},
            ),
            Panel(
                "Challenger",
                "The second model, where there is one: name, version and scoring form.",
                "none",
                {"challenger": f"count by (name, version, form) ({SCORER}challenger_info{_INSTANCE})"},
                kind="table",
            ),
            Panel(
                "Split",
                "Predictions of the challenger, and of the champion in its place, by reason.",
                "cps",
                {
                    "challenger": per_second(SCORER + "challenger_predictions_total"),
                    "champion instead: {{reason}}": per_second(SCORER + "challenger_fallbacks_total", "reason"),
                },
            ),
            Panel(
                "Shadow predictions",
                "What the challenger has written beside the model, and the events that it did not, by reason.",
                "cps",
                {
                    "produced": per_second(SCORER + "shadow_produced_total"),
                    "dropped: {{reason}}": per_second(SCORER + "shadow_dropped_total", "reason"),
                },
            ),
        ],
    ),
    Row(
        "Processes",
        [
            Panel(
                "Processes that answer",
                "Scorers and drift workers that Prometheus reaches.",
                "short",
                {"{{job}}": 'sum by (job) (up{job=~"scorer|drift-worker", instance=~"$instance"})'},
            ),
            Panel(
                "Parts that do not work",
                "Parts of scorers and drift workers that have ended or wait for a person. /health has the reason.",
                "short",
                {
                    "scorer {{instance}}: {{part}}": f"{SCORER}part_up{_INSTANCE} == 0",
                    "drift worker {{instance}}: {{part}}": f"driftline_drift_part_up{_INSTANCE} == 0",
                },
            ),
            Panel(
                "CPU",
                "Cores in use, by process.",
                "short",
                {
                    "{{job}} {{instance}}": 'rate(process_cpu_seconds_total{job=~"scorer|drift-worker", '
                    'instance=~"$instance"}[$__rate_interval])'
                },
            ),
            Panel(
                "Memory",
                "Resident memory, by process.",
                "bytes",
                {
                    "{{job}} {{instance}}": 'process_resident_memory_bytes{job=~"scorer|drift-worker", '
                    'instance=~"$instance"}'
                },
            ),
            Panel(
                "Loop lag",
                "How late the event loop ran. Health answers on a separate thread.",
                "s",
                {
                    "scorer {{instance}}": f"{SCORER}loop_lag_seconds{_INSTANCE}",
                    "drift worker {{instance}}": f"driftline_drift_loop_lag_seconds{_INSTANCE}",
                },
            ),
            Panel(
                "Since the last progress",
                "Time since an outcome, a count or a window was last committed.",
                "s",
                {
                    "scorer {{instance}}": f"time() - {SCORER}last_progress_timestamp_seconds{_INSTANCE}",
                    "drift worker {{instance}}": f"time() - driftline_drift_last_progress_timestamp_seconds{_INSTANCE}",
                },
            ),
            Panel(
                "Partitions by process",
                "A scorer without partitions is on standby.",
                "short",
                {
                    "scorer {{instance}}": f"{SCORER}assigned_partitions{_INSTANCE}",
                    "{{stage}} {{instance}}": f"driftline_drift_assigned_partitions{_INSTANCE}",
                },
            ),
        ],
    ),
    Row(
        "Drift worker",
        [
            Panel(
                "Counted records",
                "Read and counted per second, by topic. The difference was rejected.",
                "cps",
                {
                    "read {{topic}}": per_second("driftline_drift_read_records_total", "topic"),
                    "counted {{topic}}": per_second("driftline_drift_counted_events_total", "topic"),
                },
            ),
            Panel(
                "Lag of the drift worker",
                "Records that wait to be counted, or to be evaluated.",
                "short",
                {
                    "{{topic}}-{{partition}}": "max by (topic, partition) "
                    '(driftline_drift_lag_records{instance=~"$instance"})'
                },
            ),
            Panel(
                "Partitions of the drift worker by state",
                "Of both stages. Every state but running is a heading in the runbook.",
                "short",
                {"{{state}}": 'sum by (state) (driftline_drift_partition_state{instance=~"$instance"}) > 0'},
            ),
            Panel(
                "Transactions of the drift worker",
                "Per second, by stage and outcome. Records processed again: the broker took back the end of their "
                "transaction.",
                "cps",
                {
                    "{{stage}} {{outcome}}": per_second("driftline_drift_transactions_total", "stage, outcome"),
                    "{{stage}} records processed again": per_second("driftline_drift_torn_records_total", "stage")
                    + " > 0",
                },
            ),
            Panel(
                "Rebalances of the drift worker",
                "Per five minutes: assignments received, and producers replaced, by cause.",
                "short",
                {
                    "assignments: {{stage}}": "sum by (stage) (increase(driftline_drift_rebalances_total"
                    '{instance=~"$instance"}[5m]))',
                    "rebuilt: {{cause}}": "sum by (cause) (increase(driftline_drift_producer_rebuilds_total"
                    '{instance=~"$instance"}[5m]))',
                },
            ),
            Panel(
                "Damaged records",
                "Internal records that could not be read, per second, by topic.",
                "cps",
                {"{{topic}}": per_second("driftline_drift_unreadable_records_total", "topic")},
            ),
        ],
    ),
]

DASHBOARD = dashboard("Technical", "Are events answered, in time, each once?", [INSTANCE_VARIABLE], TECHNICAL, [])
