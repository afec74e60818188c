//! Which customers, minutes or days one pass of an audit looks at.
//!
//! What is counted by customer takes as much of the server's memory as there are customers, what is counted by cell as much as there are cells, and what goes
//! to its disk comes back through buffers that take as much again. So a large audit asks several times, each time for those customers (or, of cells, minutes
//! or days) whose hash falls into one part: a pass takes its part of the memory.

use clickhouse::Row;
use serde::Deserialize;

use super::log::MOST_PASSES;
use super::{AuditError, AuditOptions, Scope};
use crate::store::Admin;

/// What one archived event may take in the widest query, that of `customers`: all that is kept of its customer (texts of the first event, days, the
/// graph's columns) on both sides, with threads and buffers of the disk. In three passes over 28.9 million events of 5.8 million customers it was 180; the
/// rest is for what else the server does, such as its refreshed lists.
const BYTES_AN_EVENT: u64 = 400;

/// One of several parts of all customers, minutes or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// From 0.
    pub number: u64,
    pub of: u64,
}

/// The condition that a customer, or a minute or day, is one of this pass; `1` when there is only one.
pub(super) fn in_part(scope: &Scope, brand: &str, place: &str) -> String {
    scope
        .part
        .map_or_else(|| "1".to_owned(), |Part { number, of }| format!("cityHash64(toString({brand}), toString({place})) % {of} = {number}"))
}

#[derive(Row, Deserialize)]
struct Archived {
    events: u64,
}

/// How many passes keep to the memory.
pub(super) async fn passes(admin: &Admin, options: &AuditOptions) -> Result<u64, AuditError> {
    if let Some(passes) = options.passes {
        return Ok(passes.clamp(1, MOST_PASSES));
    }
    let query = "SELECT sum(rows) AS events FROM system.parts \
                 WHERE database = currentDatabase() AND active AND table IN ('scans', 'purchases', 'share_events')";
    let archived: Archived = admin.row(query).await?;
    Ok(needed(archived.events, options.memory_bytes))
}

fn needed(events: u64, memory_bytes: u64) -> u64 {
    events.saturating_mul(BYTES_AN_EVENT).div_ceil(memory_bytes.max(1)).clamp(1, MOST_PASSES)
}

#[cfg(test)]
mod tests {
    use super::{MOST_PASSES, needed};

    #[test]
    fn a_small_archive_is_read_once_and_a_large_one_as_often_as_the_memory_needs() {
        assert_eq!(needed(0, 4 << 30), 1);
        assert_eq!(needed(10_000_000, 4 << 30), 1);
        assert_eq!(needed(28_900_000, 4 << 30), 3);
        assert_eq!(needed(28_900_000, 64 << 30), 1);
        assert_eq!(needed(u64::MAX, 1), MOST_PASSES);
    }
}
