//! Allowed values of the numeric keys, and why a bound is where it is when that is not plain.

/// The smallest and largest allowed value of a whole-number key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub key: &'static str,
    pub least: i64,
    pub most: i64,
}

const HOUR_MS: i64 = 3_600_000;
const CENTURY_DAYS: i64 = 36_500;
const GIBIBYTE: i64 = 1 << 30;

/// One entry for each whole-number key.
pub(super) const RANGES: &[Range] = &[
    // The broker has bounds of its own (group.min.session.timeout.ms, group.max.session.timeout.ms) and says so when a worker joins.
    range("kafka.session_timeout_ms", 1_000, HOUR_MS),
    range("kafka.replication_factor", 0, 100),
    range("kafka.min_insync_replicas", 0, 100),
    range("clickhouse.send_timeout_ms", 1, HOUR_MS),
    range("clickhouse.insert_timeout_ms", 1, HOUR_MS),
    range("clickhouse.query_timeout_ms", 1, 24 * HOUR_MS),
    range("clickhouse.minute_retention_days", 1, CENTURY_DAYS),
    range("clickhouse.archive_retention_days", 0, CENTURY_DAYS),
    range("pipeline.workers", 1, 256),
    range("pipeline.serve_interval_ms", 10, HOUR_MS),
    range("pipeline.archive_interval_ms", 10, HOUR_MS),
    range("pipeline.checkpoint_interval_ms", 100, HOUR_MS),
    range("pipeline.max_lateness_days", 0, CENTURY_DAYS),
    range("pipeline.forget_slack_days", 0, CENTURY_DAYS),
    range("pipeline.future_skew_ms", 0, 365 * 24 * HOUR_MS),
    range("pipeline.drain_deadline_ms", 100, HOUR_MS),
    range("pipeline.takeover_serve_delay_ms", 0, HOUR_MS),
    range("pipeline.relay_gap_limit_ms", 1_000, 7 * 24 * HOUR_MS),
    range("dead_letter.max_consecutive", 1, 1_000_000_000),
    // Kafka's own largest message is under 100 MiB in practice; texts alone may take some 2 KiB.
    range("limits.event_bytes", 4_096, 64 << 20),
    range("limits.levels", 1, 64),
    range("limits.batch_records", 1, 1_000_000),
    range("limits.fetch_queue_bytes", 1 << 20, GIBIBYTE),
    // An insert has to stay one block: ClickHouse's is about 1,000,000 rows.
    range("limits.rows_per_insert", 1, 1_000_000),
    range("limits.archive_rows_per_insert", 1, 1_000_000),
    range("limits.dirty_keys_per_checkpoint", 1, 10_000_000),
    range("limits.buffered_bytes", 1 << 20, 256 * GIBIBYTE),
    range("limits.in_flight_inserts", 1, 64),
    range("limits.inserts_per_second", 1, 1_000),
    range("limits.retry_backoff_max_ms", 10, HOUR_MS),
    range("limits.memory_bytes", 128 << 20, 8_192 * GIBIBYTE),
    range("limits.state_bytes", 16 << 20, 4_096 * GIBIBYTE),
    range("limits.cold_bytes", 0, 65_536 * GIBIBYTE),
    range("limits.parallel_takeovers", 1, 256),
    range("limits.produce_queue_records", 100, 10_000_000),
    range("limits.produce_queue_bytes", 1 << 20, 2 * GIBIBYTE),
];

/// The range of a key.
pub(super) fn of(key: &str) -> Option<&'static Range> {
    RANGES.iter().find(|range| range.key == key)
}

const fn range(key: &'static str, least: i64, most: i64) -> Range {
    Range { key, least, most }
}
