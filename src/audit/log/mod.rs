//! The audit from the logs: the input topics counted again up to the positions of the checkpoints, and compared with everything that was
//! made of them. Works while the pipeline runs, and sees an event that was lost before the archive.
//!
//! Shares the decoder with the pipeline and nothing else: the state is read as protobuf, never through the engine, and counted by
//! `recount`, one customer after the other from its distinct events. Promises that it only reads, joins no group, and that a
//! difference that it tells is one: what is on its way is recognised and left alone. Holds in memory the events of a pass (packed), the
//! stored rows of all customers (as they are stored) and all cells.
//!
//! ```text
//!  1 task_state: state and positions (snapshot) ─┐
//!  2 serving rows and archive                    ├─► events, sorted by customer (facts) ─► recount ─► compare ─► Report
//!  3 dead letters, 4 input logs to their ends ───┘
//! ```
//!
//! The order matters: whatever is seen in 1 and 2 was made of records that lie before the ends in 4. A task's state is that of its
//! checkpoint: all of its own logs before its positions, and of others' logs its customers' events up to the relay marks. A serving
//! row may be newer; it is compared if its customer (or cell) has no event after the checkpoint, or if its version says that it is not.

mod cells;
mod compare;
mod facts;
mod packed;
mod read;
mod recount;
mod rows;
mod snapshot;

use std::collections::BTreeSet;

use super::{AuditOptions, Report, bounded};
use crate::config::Config;
use crate::kafka::ClusterError;
use crate::migrate::{self, Difference};
use crate::rescale::marker;
use crate::store::{Admin, AdminError};
use cells::Cells;
use compare::Findings;
use facts::Events;
pub(in crate::audit) use read::Logs;
use rows::Serving;
pub(in crate::audit) use snapshot::Snapshot;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum LogAuditError {
    /// ClickHouse could not be asked.
    #[error(transparent)]
    ClickHouse(#[from] AdminError),
    /// Kafka could not be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A log could not be read.
    #[error("cannot read `{topic}`: {reason}; check `kafka.brokers` and `kafka.client`")]
    Read {
        /// Topic.
        topic: String,
        /// What the client says.
        reason: String,
    },
    /// The tables are not there, or not as this release needs them.
    #[error("the tables cannot be audited:{}", .0.iter().map(|difference| format!("\n  {difference}")).collect::<String>())]
    Schema(Vec<Difference>),
    /// No checkpoint.
    #[error(
        "task {task} has no checkpoint in `task_state`: let the pipeline run until it has written one (pipeline.checkpoint_interval_ms)"
    )]
    NoCheckpoint {
        /// The first of them.
        task: String,
    },
    /// A row of `task_state` cannot be read.
    #[error("task {task} has a row of kind {kind} in `task_state` that cannot be read: {reason}")]
    State {
        /// Whose.
        task: String,
        /// As stored.
        kind: u8,
        /// What is wrong.
        reason: String,
    },
    /// More than can be held at once.
    #[error("an event or a customer cannot be held in memory: {0}; make more passes with `--passes`")]
    Packed(#[from] postcard::Error),
    /// The state is on its way to another number of tasks.
    #[error("the state is being moved to {to} tasks: end it with `onecode rescale --tasks {to}` first")]
    Moving {
        /// The number of tasks to be.
        to: u32,
    },
    /// Nobody has all events any more.
    #[error(
        "`{topic}` begins at offset {offset} of partition {partition}: what was before is neither there nor, with \
         `clickhouse.archive_retention_days` set, in the archive"
    )]
    Incomplete {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// First offset.
        offset: i64,
    },
}

/// Records and archived events that a pass holds in memory, about: some 3 GiB with the customers whom they are of. More passes are made for more.
pub const EVENTS_PER_PASS: u64 = 10_000_000;
/// More passes than this are never made.
pub const MOST_PASSES: u64 = 4_096;

/// How to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// In how many passes: each reads all logs and holds so small a part of the customers in memory. 1 or more; `None`: as many as
    /// [`EVENTS_PER_PASS`] asks for.
    pub passes: Option<u64>,
}

/// Passes for so many records and archived events.
fn passes_for(events: u64) -> u64 {
    events.div_ceil(EVENTS_PER_PASS).clamp(1, MOST_PASSES)
}

/// A report, and what it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// What differs.
    pub report: Report,
    /// Records before the checkpoints' positions and marks that count.
    pub counted: u64,
    /// Records after them, or on their way to another task.
    pub later: u64,
    /// Rows that were not compared because they are newer than the checkpoint.
    pub newer_rows: u64,
    /// Events that are older than the first record kept in the logs; taken from the archive.
    pub from_archive: u64,
    /// In how many passes.
    pub passes: u64,
}

/// Audits by the logs.
///
/// # Errors
/// [`LogAuditError`]; differences are no error, they are in the report.
pub async fn audit(config: &Config, options: &AuditOptions, log_options: LogOptions) -> Result<LogReport, LogAuditError> {
    let admin = bounded(Admin::new(&config.clickhouse), options.memory_bytes);
    let differences = migrate::compare(&admin).await?;
    if !differences.is_empty() {
        return Err(LogAuditError::Schema(differences));
    }
    if let Some(marker) = marker(&admin).await? {
        return Err(LogAuditError::Moving { to: marker.to });
    }
    let logs = Logs::ask(config)?;
    let passes = match log_options.passes {
        Some(passes) => passes,
        None => passes_for(logs.records(config)? + facts::archived(&admin).await?),
    };
    let mut cells = Cells::default();
    let snapshot = Snapshot::read(&admin, logs.tasks, &mut cells).await?;
    let mut findings = Findings::new(options.listed_differences);
    let mut covered = LogReport {
        report: Report { tables: Vec::new(), left_out_customers: 0, conflicts: Vec::new() },
        counted: 0,
        later: 0,
        newer_rows: 0,
        from_archive: 0,
        passes,
    };
    // Rows are read before the logs: whatever they say lies before the logs' ends of later.
    rows::read_cells(&admin, config, &mut cells).await?;
    for pass in 0..passes {
        let part = facts::Part { pass, passes };
        let serving = Serving::read(&admin, part).await?;
        let mut events = Events::default();
        facts::read_archive(&admin, part, &mut events).await?;
        let letters: BTreeSet<read::Place> = logs.letters(config)?;
        let begins = logs.read(config, &snapshot, &letters, part, &mut events)?;
        let logs_are_whole = begins.is_none();
        if let (Some(first), true) = (begins, config.clickhouse.archive_retention_days.is_some()) {
            return Err(LogAuditError::Incomplete { topic: first.topic, partition: first.partition, offset: first.offset });
        }
        let calendar = config.calendar();
        let scope =
            recount::Scope { calendar: &calendar, logs_are_whole, archive_begins_ms: rows::archive_begins_ms(&admin, config).await? };
        events.sort();
        let customers = recount::recount(&events, &scope, &mut findings, &mut cells)?;
        covered.report.conflicts.extend(customers.conflicts.iter().cloned());
        covered.report.left_out_customers += customers.left_out();
        covered.from_archive += customers.from_archive;
        covered.counted += customers.counted;
        covered.later += customers.later;
        covered.newer_rows += compare::customers(&customers, &snapshot, &serving, part, &mut findings)?;
    }
    covered.newer_rows += compare::cells(&cells, &snapshot, &config.calendar(), &mut findings);
    covered.report.tables = findings.into_tables();
    Ok(covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_passes_are_made_that_each_holds_few_enough_events() {
        let passes = [0, 1, EVENTS_PER_PASS, EVENTS_PER_PASS + 1, 10 * EVENTS_PER_PASS, u64::MAX].map(passes_for);
        assert_eq!(passes, [1, 1, 1, 2, 10, MOST_PASSES]);
    }
}
