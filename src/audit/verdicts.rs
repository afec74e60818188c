//! The verdicts of past audits, in the table `audits`: an audit leaves one, running pipelines show the newest.

use clickhouse::Row;
use serde::Deserialize;

use super::Report;
use crate::store::{Admin, AdminError, literal};

/// What a running pipeline shows of the newest audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct Verdict {
    /// Rows that differed from the archive.
    pub differences: u64,
}

/// Leaves the verdict of an audit of all tables.
///
/// # Errors
/// When ClickHouse does not take it: an auditor needs no other right to write than this one.
pub async fn record(admin: &Admin, report: &Report) -> Result<(), AdminError> {
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    let statement = format!(
        "INSERT INTO audits (finished_at, differences, rows, conflicts, left_out_customers, program) SELECT now64(3), {}, {rows}, {}, {}, {}",
        report.differences(),
        report.conflicts.len(),
        report.left_out_customers,
        literal(env!("CARGO_PKG_VERSION")),
    );
    admin.execute(&statement).await
}

/// The verdict of the newest audit; none before the first.
///
/// # Errors
/// When ClickHouse cannot be asked.
pub async fn newest(admin: &Admin) -> Result<Option<Verdict>, AdminError> {
    Ok(admin.rows("SELECT differences FROM audits ORDER BY finished_at DESC LIMIT 1").await?.pop())
}
