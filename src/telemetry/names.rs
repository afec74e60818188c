//! Every metric: name, kind, labels with their values, and what it tells an operator.
//!
//! `README.md` and the dashboards show the same names; tests compare. Values per task go to `/status`, never into labels.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution over fixed buckets.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// With its unit.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Names of its labels; the values are bounded.
    pub labels: &'static [&'static str],
    /// For a person.
    pub help: &'static str,
}

const INSERT_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
const CHECKPOINT_BUCKETS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0];
const END_TO_END_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 86_400.0];

/// Records read.
pub const CONSUMED_RECORDS: Metric = counter("onecode_consumed_records_total", &["topic"], "records read from a topic, replays included");
/// Events by what became of them.
pub const APPLIED_EVENTS: Metric = counter(
    "onecode_applied_events_total",
    &["kind", "outcome"],
    "events by outcome: applied (counted), duplicate (counted before), relayed (passed on to the owner of the customer)",
);
/// Records that were not accepted.
pub const DEAD_LETTERS: Metric = counter(
    "onecode_dead_letters_total",
    &["topic", "reason"],
    "records put among the dead letters, by the topic where they first arrived",
);
/// Refused relays.
pub const RELAY_GAPS: Metric =
    counter("onecode_relay_gaps_total", &[], "relays refused because one before them is missing; mended by the sender's replay");
/// Rows inserted.
pub const INSERT_ROWS: Metric = counter("onecode_insert_rows_total", &["table"], "rows that ClickHouse acknowledged");
/// Repeated inserts.
pub const INSERT_RETRIES: Metric =
    counter("onecode_insert_retries_total", &["table"], "inserts that failed or had no answer and are tried again");
/// Takeovers.
pub const TAKEOVERS: Metric = counter("onecode_takeovers_total", &[], "tasks taken over, first starts included");
/// Fencing.
pub const FENCED: Metric = counter("onecode_fenced_total", &[], "times that another member's claim made a task here stop");
/// Cold state that left memory.
pub const COLD_EVICTIONS: Metric = counter("onecode_cold_evictions_total", &[], "groups of cold state that left memory for the local disk");
/// Cold state that came back.
pub const COLD_LOADS: Metric = counter("onecode_cold_loads_total", &[], "groups of cold state that were needed and came back into memory");

/// Lag in records.
pub const LAG_RECORDS: Metric = gauge(
    "onecode_lag_records",
    &["topic"],
    "records between what is applied and the end of the log, over the partitions of this process whose tasks are not being restored (onecode_tasks_restoring)",
);
/// Lag in seconds.
pub const LAG_SECONDS: Metric = gauge(
    "onecode_lag_seconds",
    &["topic"],
    "age of the last record applied where records are left, the worst of the partitions of this process; 0 = all applied",
);
/// Age of the oldest checkpoint.
pub const CHECKPOINT_AGE: Metric = gauge(
    "onecode_checkpoint_age_seconds",
    &[],
    "age of the oldest task's last checkpoint, a predecessor's included: what a crash would replay",
);
/// Keys of the state.
pub const STATE_KEYS: Metric = gauge("onecode_state_keys", &["kind"], "keys in the state of the tasks of this process");
/// Bytes of the state.
pub const STATE_BYTES: Metric = gauge("onecode_state_bytes", &[], "memory that the state of the tasks takes; limit: limits.state_bytes");
/// What state may take.
pub const STATE_LIMIT_BYTES: Metric = gauge(
    "onecode_state_limit_bytes",
    &[],
    "memory that state may take at this moment: what limits.memory_bytes leaves, at most limits.state_bytes; above it, state leaves for the local disk",
);
/// Memory of the process.
pub const RESIDENT_BYTES: Metric = gauge("onecode_resident_bytes", &[], "resident memory of the process; limit: limits.memory_bytes");
/// Cold keys.
pub const COLD_KEYS: Metric = gauge("onecode_cold_keys", &[], "keys of the state that are on the local disk and not in memory");
/// Cold bytes.
pub const COLD_BYTES: Metric = gauge("onecode_cold_bytes", &[], "state on the local disk; limit: limits.cold_bytes");
/// Changed keys.
pub const DIRTY_KEYS: Metric =
    gauge("onecode_dirty_keys", &[], "keys changed since the last checkpoint; limit: limits.dirty_keys_per_checkpoint a task");
/// Tasks.
pub const TASKS: Metric = gauge("onecode_tasks", &[], "tasks that run in this process");
/// Tasks that do not run yet.
pub const TASKS_RESTORING: Metric = gauge("onecode_tasks_restoring", &[], "tasks assigned to this process that do not run yet");
/// Worker threads.
pub const WORKERS: Metric = gauge("onecode_workers", &[], "worker threads");
/// Back-pressure.
pub const WORKERS_PAUSED: Metric =
    gauge("onecode_workers_paused", &[], "workers that stopped reading because what they read cannot leave fast enough");
/// Open relay gaps.
pub const RELAY_GAPS_OPEN: Metric =
    gauge("onecode_relay_gaps_open", &[], "relay sources with a gap; one that lasts past pipeline.relay_gap_limit_ms stops the task");
/// Rows that wait.
pub const BUFFERED_BYTES: Metric = gauge(
    "onecode_buffered_bytes",
    &[],
    "encoded rows that wait for ClickHouse, and messages that wait for Kafka; limit: limits.buffered_bytes",
);
/// Inserts on their way.
pub const IN_FLIGHT_INSERTS: Metric = gauge("onecode_in_flight_inserts", &[], "inserts on their way; limit: limits.in_flight_inserts");
/// Messages on their way.
pub const PRODUCE_QUEUE_RECORDS: Metric = gauge(
    "onecode_produce_queue_records",
    &[],
    "produced messages that Kafka has not acknowledged; limit: limits.produce_queue_records a worker",
);
/// Bytes on their way.
pub const PRODUCE_QUEUE_BYTES: Metric = gauge(
    "onecode_produce_queue_bytes",
    &[],
    "bytes of produced messages that Kafka has not acknowledged; limit: limits.produce_queue_bytes a worker",
);
/// Result of the audit.
pub const AUDIT_DIFFERENCES: Metric = gauge(
    "onecode_audit_differences",
    &[],
    "rows that the newest audit found different (by the archive, by the logs or of samples, whichever found most); NaN before the first",
);
/// Readiness.
pub const READY: Metric = gauge("onecode_ready", &[], "1 when /readyz answers 200");
/// Configured limits.
pub const LIMIT: Metric = gauge("onecode_limit", &["key"], "a limit of the configuration, by its key, to draw beside what it limits");
/// Version.
pub const BUILD_INFO: Metric = gauge("onecode_build_info", &["version"], "1, with the version of the program");

/// From record to row.
pub const END_TO_END: Metric = Metric {
    name: "onecode_end_to_end_seconds",
    kind: Kind::Histogram(END_TO_END_BUCKETS),
    labels: &[],
    help: "from a record's timestamp to the acknowledgement of the rows that it changed, one observation a record",
};
/// Duration of inserts.
pub const INSERT: Metric = Metric {
    name: "onecode_insert_seconds",
    kind: Kind::Histogram(INSERT_BUCKETS),
    labels: &["table"],
    help: "duration of one insert that ClickHouse acknowledged",
};
/// Duration of checkpoints.
pub const CHECKPOINT: Metric = Metric {
    name: "onecode_checkpoint_seconds",
    kind: Kind::Histogram(CHECKPOINT_BUCKETS),
    labels: &[],
    help: "duration of a task's checkpoint, from its cut to the acknowledgement of its rows",
};
/// Duration of takeovers.
pub const TAKEOVER: Metric = Metric {
    name: "onecode_takeover_seconds",
    kind: Kind::Histogram(CHECKPOINT_BUCKETS),
    labels: &[],
    help: "duration of a task's takeover, from the assignment to its first record",
};

/// Every metric, in the order of the manual.
pub const ALL: &[Metric] = &[
    CONSUMED_RECORDS,
    APPLIED_EVENTS,
    DEAD_LETTERS,
    LAG_RECORDS,
    LAG_SECONDS,
    END_TO_END,
    INSERT,
    INSERT_ROWS,
    INSERT_RETRIES,
    CHECKPOINT_AGE,
    CHECKPOINT,
    STATE_KEYS,
    STATE_BYTES,
    STATE_LIMIT_BYTES,
    RESIDENT_BYTES,
    COLD_KEYS,
    COLD_BYTES,
    COLD_EVICTIONS,
    COLD_LOADS,
    DIRTY_KEYS,
    TASKS,
    TASKS_RESTORING,
    TAKEOVERS,
    TAKEOVER,
    FENCED,
    RELAY_GAPS,
    RELAY_GAPS_OPEN,
    WORKERS,
    WORKERS_PAUSED,
    BUFFERED_BYTES,
    IN_FLIGHT_INSERTS,
    PRODUCE_QUEUE_RECORDS,
    PRODUCE_QUEUE_BYTES,
    LIMIT,
    AUDIT_DIFFERENCES,
    READY,
    BUILD_INFO,
];

/// What became of an event: label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Counted.
    Applied = 0,
    /// Counted before.
    Duplicate = 1,
    /// Passed on to the owner of its customer.
    Relayed = 2,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Outcome; 3] = [Outcome::Applied, Outcome::Duplicate, Outcome::Relayed];

    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Duplicate => "duplicate",
            Outcome::Relayed => "relayed",
        }
    }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}
