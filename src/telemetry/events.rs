//! What the shells report, one line at the call site each: an insert, a checkpoint, a takeover.

use std::time::Duration;

use super::names::{
    AUDIT_DIFFERENCES, CHECKPOINT, COLD_EVICTIONS, COLD_LOADS, FENCED, INSERT, INSERT_RETRIES, INSERT_ROWS, TAKEOVER, TAKEOVERS,
};

/// ClickHouse acknowledged an insert.
pub fn inserted(table: &'static str, rows: usize, elapsed: Duration) {
    metrics::histogram!(INSERT.name, "table" => table).record(elapsed.as_secs_f64());
    metrics::counter!(INSERT_ROWS.name, "table" => table).increment(rows as u64);
}

/// An insert failed, or had no answer, and is tried again.
pub fn insert_retried(table: &'static str) {
    metrics::counter!(INSERT_RETRIES.name, "table" => table).increment(1);
}

/// A task's checkpoint is complete.
pub fn checkpointed(elapsed: Duration) {
    metrics::histogram!(CHECKPOINT.name).record(elapsed.as_secs_f64());
}

/// A task runs after its takeover.
pub fn taken_over(elapsed: Duration) {
    metrics::counter!(TAKEOVERS.name).increment(1);
    metrics::histogram!(TAKEOVER.name).record(elapsed.as_secs_f64());
}

/// Another member's claim made a task here stop.
pub fn fenced() {
    metrics::counter!(FENCED.name).increment(1);
}

/// Groups of cold state left memory, and came back.
pub fn cold_groups(evicted: u64, loaded: u64) {
    metrics::counter!(COLD_EVICTIONS.name).increment(evicted);
    metrics::counter!(COLD_LOADS.name).increment(loaded);
}

/// An audit ended with this many different rows.
pub fn audited(differences: u64) {
    metrics::gauge!(AUDIT_DIFFERENCES.name).set(differences as f64);
}
